"""Takes away what loads have staged, once nobody needs it any more."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import uuid
from collections.abc import Iterator, Sequence

from beam_etl.loads.holdings import ever_published
from beam_etl.loads.lease_keeper import hold_leases
from beam_etl.loads.plan import LoadPlan, load_directory, read_plan, read_report
from beam_etl.parquet.staging import safe_name
from beam_etl.sinks import SinkSettings
from beam_etl.storage import join_path, local_path, storage_for

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Collection:
    """What became of the staging of a load: whether it was taken away, and why or why not."""

    load_id: str
    collected: bool
    reason: str


def collect_load(sinks: SinkSettings) -> None:
    """Deletes all that a load has staged: copies of sources, rejects, files, commit records, staging tables.

    What it published, its plan, report, rejects and books stay. Idempotent.
    """
    sinks.open_parquet().drop_staging()
    postgres = sinks.open_postgres()
    if postgres is None:
        return
    try:
        postgres.prepare()
        postgres.drop_staging()
    finally:
        postgres.close()


def collect_after_other_runs(sinks: SinkSettings, tables: Sequence[str]) -> None:
    """Deletes what a published load has staged, unless another run of it is still at work: that one will.

    To be called without leases: of runs that end in the same moment, each of which saw the other, one gets them here.
    """
    try:
        with hold_leases(
            f"gc-{uuid.uuid4().hex[:8]}", tables, dataclasses.replace(sinks, load_id=""), wait_seconds=0.0
        ):
            collect_load(sinks)
    except ValueError as error:
        logger.info("the staging of load %s is left to its other run: %s", sinks.load_id, error)


def collect_garbage(sinks: SinkSettings, keep_days: float) -> Iterator[Collection]:
    """Deletes the staging of loads that are over, and of those that were given up; says what became of each.

    A load is over once all its tables are published, and given up when it was planned more than keep_days ago. One that
    is running is left alone, and so is one that PostgreSQL has and Parquet has not: its command completes it.

    Args:
      sinks: of no load.
    """
    for load_id in _staged_loads(sinks):
        of_load = dataclasses.replace(sinks, load_id=load_id)
        if storage_for(sinks.output).stat(f"{load_directory(local_path(sinks.output), load_id)}/plan.json") is None:
            collect_load(of_load)
            yield Collection(load_id, True, "it has no plan any more")
            continue
        plan = read_plan(sinks.output, load_id)
        tables = [table.name for table in plan.tables]
        try:
            with hold_leases(f"gc-{uuid.uuid4().hex[:8]}", tables, sinks, wait_seconds=0.0):
                yield _collect_leased(plan, of_load, keep_days)
        except ValueError as error:
            yield Collection(load_id, False, str(error))


def _collect_leased(plan: LoadPlan, sinks: SinkSettings, keep_days: float) -> Collection:
    report = read_report(sinks.output, plan.load_id)
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(plan.created)
    over = report is not None and report["published"]
    if not over and age <= datetime.timedelta(days=keep_days):
        return Collection(plan.load_id, False, f"it is not over, and was planned no {keep_days:g} days ago")
    if plan.postgres and sinks.postgres is None:
        return Collection(plan.load_id, False, "it has a part in PostgreSQL; give --postgres")
    for table in () if over else plan.tables:
        in_parquet, *in_postgres = ever_published(sinks, plan.load_id, table.name)
        if any(in_postgres) and not in_parquet:
            return Collection(plan.load_id, False, f"Parquet lacks its table {table.name!r}; run its command again")
    collect_load(sinks)
    return Collection(plan.load_id, True, "all its tables are published" if over else "it was given up")


def _staged_loads(sinks: SinkSettings) -> list[str]:
    """The loads of this lake that have staged anything, in either sink."""
    root = join_path(local_path(sinks.output), "_beam_etl")
    storage = storage_for(sinks.output)
    below = len(join_path(root, "staging")) + 1
    staged = {path[below:].partition("/")[0] for path, _ in storage.list_files(join_path(root, "staging"))}
    postgres = sinks.open_postgres()
    if postgres is not None:
        try:
            postgres.prepare()
            of_lake = {path.split("/")[-2] for path, _ in storage.list_files(join_path(root, "loads"))}
            staged |= {load_id for load_id in postgres.staged_loads() if safe_name(load_id) in of_lake}
        finally:
            postgres.close()
    return sorted(staged)
