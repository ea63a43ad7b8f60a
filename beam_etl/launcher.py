"""One run of a load, from a valid configuration to its report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.config import EtlConfig
from beam_etl.declarations import sink_settings
from beam_etl.loads.audited import audited
from beam_etl.loads.collection import collect_after_other_runs, collect_load
from beam_etl.loads.holder import Holder
from beam_etl.loads.holdings import Holdings, ever_published, read_holdings, select_files
from beam_etl.loads.lease_keeper import hold_leases
from beam_etl.loads.plan import LoadPlan, freeze_plan, plan_key, read_report
from beam_etl.loads.publication import roll_forward
from beam_etl.loads.report import write_report
from beam_etl.loads.runs import Run
from beam_etl.model import SourceFile
from beam_etl.postgres.errors import PostgresError
from beam_etl.postgres.store import PostgresStore
from beam_etl.progress.board import BOARD
from beam_etl.run_settings import RunSettings
from beam_etl.sinks import SinkSettings
from beam_etl.sources.discovery import discover
from beam_etl.sources.table_names import TableRule
from beam_etl.storage import join_path, storage_for

logger = logging.getLogger(__name__)


class RunFailedError(Exception):
    """The graph did not run to its end; what was committed is kept and the same command resumes it."""


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """What a run came to.

    Attributes:
      report: the load's report, as in report.json.
      already_loaded: nothing was done, because the tables hold all of it.
      submitted: a remote runner has the job and nobody waits for it; the report names the load and no table yet.
    """

    report: dict[str, Any]
    already_loaded: bool = False
    submitted: bool = False


def run_load(config: EtlConfig, beam_args: Sequence[str] = ()) -> LoadResult:
    """Plans, checks, runs and reports one load.

    Args:
      beam_args: flags of Beam and its runner, passed through.

    Raises:
      ValueError: configuration or preflight: nothing was loaded; the message holds the remedy.
      RunFailedError: the run failed; run the same command again to resume it.
    """
    started = time.time()
    check_writable(f"--output {config.output}", join_path(config.output, "_beam_etl/.writable"))
    if config.report is not None:
        check_writable(f"--report {config.report}", f"{config.report}.writable")
    check_postgres(config)
    rules = [TableRule(table.name, table.files) for table in config.tables]
    files = discover(config.input, rules, config.table)
    # Runs of one load may share its leases; a forced one is another load each time.
    owner = plan_key(config, files) + (f"-{uuid.uuid4().hex[:8]}" if config.force else "")
    tables = sorted({file.table for file in files})
    _prepare_postgres(sink_settings(config, ""))
    with hold_leases(owner, tables, sink_settings(config, "")) as leases:
        sinks = sink_settings(config, "", leases.tokens)
        for table in tables:
            roll_forward(table, sinks)
        result = _plan_and_run(config, files, beam_args, started, sinks, leases.holder)
        of_load = dataclasses.replace(sinks, load_id=result.report["load_id"])
        over = result.report["published"] and not config.keep_staging
        shared = leases.is_shared()
        if over and not shared:
            collect_load(of_load)
    if over and shared:
        collect_after_other_runs(of_load, tables)
    if not result.submitted:
        _copy_report(config, result.report)
        if not result.already_loaded:
            _write_report_page(config, result.report["load_id"])
    return result


def _plan_and_run(
    config: EtlConfig,
    files: Sequence[SourceFile],
    beam_args: Sequence[str],
    started: float,
    sinks: SinkSettings,
    holder: Holder,
) -> LoadResult:
    """Does what is left to do of a load whose tables are leased.

    Args:
      sinks: with the tokens of the leases, of no load yet.
      holder: this run, as the leases name it.
    """
    holdings = read_holdings(sorted({file.table for file in files}), sinks)
    plan = freeze_plan(
        config,
        files,
        os.cpu_count() or 1,
        select=lambda: select_files(config, files, holdings),
        is_current=holdings.is_current,
        may_resume=lambda frozen: holdings.may_resume(frozen, lambda *load: ever_published(sinks, *load)),
    )
    sinks = dataclasses.replace(sinks, load_id=plan.load_id)
    failpoints.hit("load.planned")
    report = read_report(config.output, plan.load_id)
    if report is not None and report["published"] and holdings.is_current(plan):
        return LoadResult(report, already_loaded=True)
    with audited(Run.begin(plan.load_id, holder, config, beam_args), plan, sinks):
        return _run_to_report(config, plan, beam_args, started, sinks, holdings)


def _run_to_report(
    config: EtlConfig,
    plan: LoadPlan,
    beam_args: Sequence[str],
    started: float,
    sinks: SinkSettings,
    holdings: Holdings,
) -> LoadResult:
    published = frozenset(table.name for table in plan.tables if holdings.holds(plan, table.name))
    if len(published) < len(plan.tables):
        logger.info("load %s: %d files, %d tables", plan.load_id, len(plan.files), len(plan.tables))
        if not _run_graph(config, plan, beam_args, RunSettings(started, 0, published, sinks.tokens)):
            return LoadResult({"load_id": plan.load_id, "tables": {}, "published": False}, submitted=True)
    else:
        # All is there already: a run was killed before its report, or the tables held every file when this was planned.
        for table in {file.table for file in plan.skipped}:
            sinks.open_parquet().complete(table)
        write_report(sinks, [], started, published)
    report = read_report(config.output, plan.load_id)
    if report is None:
        raise RunFailedError(f"load {plan.load_id} wrote no report")
    return LoadResult(report, already_loaded=not plan.files)


def _prepare_postgres(sinks: SinkSettings) -> None:
    """The database may be a new one, without any books."""
    postgres = sinks.open_postgres()
    if postgres is not None:
        postgres.prepare()
        postgres.close()


def check_writable(setting: str, probe: str) -> None:
    """Raises ValueError where a probe file at the place that a setting names cannot be written and deleted again."""
    storage = storage_for(probe)
    try:
        storage.write_atomic(probe, b"")
        storage.delete(probe)
    except OSError as error:
        raise ValueError(
            f"{setting}: cannot be written ({error.strerror or error}); "
            "give a place in a directory that exists or can be made, and that this user may write"
        ) from error


def check_postgres(config: EtlConfig) -> None:
    """Raises ValueError where the database cannot take a load."""
    if config.postgres is None:
        return
    store = PostgresStore(config.postgres, "", config.postgres_schema)
    try:
        store.open()
        logger.info("%s", store.check())
    except (OSError, PostgresError, RuntimeError, ValueError) as error:  # an embedded server may fail in all these ways
        raise ValueError(f"--postgres: {error}") from error
    finally:
        store.close()


def _run_graph(config: EtlConfig, plan: LoadPlan, beam_args: Sequence[str], run: RunSettings) -> bool:
    """Whether the graph has run to its end; False where a remote runner has it and nobody is to wait."""
    # Beam takes seconds to import, and nothing before this line needs it.
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineState

    from beam_etl.pipeline import build
    from runners.place import flag_value
    from runners.table import place_for

    place = place_for(config.runner)
    problems = place.check(beam_args)
    if problems:
        raise ValueError("\n".join(problems))
    cores = os.cpu_count() or 1
    run = dataclasses.replace(run, static_lanes=place.static_lanes(beam_args, cores))
    options = PipelineOptions([*place.options(beam_args, cores), "--no_save_main_session"])
    place.prepare()
    _prepare_postgres(sink_settings(config, plan.load_id))
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, plan, run)
    try:
        in_threads = run.static_lanes and flag_value(beam_args, "direct_running_mode") != "multi_processing"
        with _shown(config if in_threads else config.model_copy(update={"progress": "none"}), plan, run):
            result = pipeline.run()
            # A flex template's launcher gives --template_location: it submits what the runner writes there, after this process.
            leave = not config.wait or flag_value(beam_args, "template_location") is not None
            if leave and not PipelineState.is_terminal(result.state):  # type: ignore[no-untyped-call]
                return False
            state = result.wait_until_finish()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise RunFailedError(f"load {plan.load_id}: {_last_line(error)}") from error
    if state not in (None, "DONE"):
        raise RunFailedError(f"load {plan.load_id} ended in state {state}")
    return True


@contextlib.contextmanager
def _shown(config: EtlConfig, plan: LoadPlan, run: RunSettings) -> Iterator[None]:
    """The load is on the board while the block runs, and on the terminal where that is wanted."""
    from beam_etl.progress.display import show_progress

    tables = [table.name for table in plan.tables if table.name not in run.published_tables]
    BOARD.begin(plan.load_id, tables, sink_settings(config, plan.load_id).names)
    # The command line has settled what auto means; whoever calls this from elsewhere is not to be written to unasked.
    how = "none" if config.progress == "auto" else config.progress
    try:
        with show_progress(how, config.memory_budget_mb and config.memory_budget_mb << 20):
            yield
    finally:
        BOARD.end()


def _last_line(error: Exception) -> str:
    """Runners put a worker's whole traceback into the text of their error; its last line says what happened.

    In a panic of Prism itself the first line does, before the state of the stage and the stacks of all its threads.
    """
    text, panic, _ = str(error).partition("\ngoroutine ")
    # Dataflow's runner ends its text with "None" where no worker has said why.
    lines = [line for line in text.splitlines() if line.strip() not in ("", "None")]
    if panic and lines:
        return lines[0].partition(", stage: ")[0].strip()
    return lines[-1].strip() if lines else type(error).__name__


def _write_report_page(config: EtlConfig, load_id: str) -> None:
    from beam_etl.reports.pages import try_report_page  # nothing before the end needs templates and charts

    try_report_page(config.output, load_id)


def _copy_report(config: EtlConfig, report: dict[str, Any]) -> None:
    if config.report is not None:
        storage_for(config.report).write_atomic(
            config.report, json.dumps(report, ensure_ascii=False, indent=1).encode()
        )
