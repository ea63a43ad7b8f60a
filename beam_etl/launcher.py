"""One run of a load, from a valid configuration to its report."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.config import EtlConfig
from beam_etl.declarations import sink_settings
from beam_etl.discovery import discover
from beam_etl.plan import LoadPlan, freeze_plan, read_report
from beam_etl.postgres_errors import PostgresError
from beam_etl.postgres_store import PostgresStore
from beam_etl.sinks import SinkSettings
from beam_etl.storage import join_path, storage_for
from beam_etl.table_names import TableRule

logger = logging.getLogger(__name__)


class RunFailedError(Exception):
    """The graph did not run to its end; what was committed is kept and the same command resumes it."""


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """What a run came to.

    Attributes:
      report: the load's report, as in report.json.
      already_loaded: nothing was done, because this very load is the current one.
    """

    report: dict[str, Any]
    already_loaded: bool = False


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
    plan = freeze_plan(config, files, os.cpu_count() or 1, lambda frozen: _is_current(frozen, config))
    failpoints.hit("load.planned")
    report = read_report(config.output, plan.load_id)
    if report is not None and report["published"] and _is_current(plan, config):
        _copy_report(config, report)
        return LoadResult(report, already_loaded=True)
    logger.info("load %s: %d files, %d tables", plan.load_id, len(plan.files), len(plan.tables))
    _run_graph(config, plan, beam_args, started)
    report = read_report(config.output, plan.load_id)
    if report is None:
        raise RunFailedError(f"load {plan.load_id} wrote no report")
    _copy_report(config, report)
    return LoadResult(report)


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


def _run_graph(config: EtlConfig, plan: LoadPlan, beam_args: Sequence[str], started: float) -> None:
    # Beam takes seconds to import, and nothing before this line needs it.
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_etl.pipeline import RunSettings, build
    from runners.table import place_for

    place = place_for(config.runner)
    problems = place.check(beam_args)
    if problems:
        raise ValueError("\n".join(problems))
    cores = os.cpu_count() or 1
    sinks = sink_settings(config, plan)
    # A run that was killed after publishing a table and before reporting it left all to do but the converting.
    finished = _published_tables(plan, sinks) & _reported_tables(config.output, plan)
    run = RunSettings(started, place.static_lanes(beam_args, cores), finished)
    options = PipelineOptions([*place.options(beam_args, cores), "--no_save_main_session"])
    place.prepare()
    postgres = sinks.open_postgres()
    if postgres is not None:
        postgres.prepare()
        postgres.close()
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, plan, run)
    try:
        result = pipeline.run()
        state = result.wait_until_finish()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise RunFailedError(f"load {plan.load_id}: {_last_line(error)}") from error
    if state not in (None, "DONE"):
        raise RunFailedError(f"load {plan.load_id} ended in state {state}")


def _last_line(error: Exception) -> str:
    """Runners put a worker's whole traceback into the text of their error; its last line says what happened.

    In a panic of Prism itself the first line does, before the state of the stage and the stacks of all its threads.
    """
    text, panic, _ = str(error).partition("\ngoroutine ")
    lines = [line for line in text.splitlines() if line.strip()]
    if panic and lines:
        return lines[0].partition(", stage: ")[0].strip()
    return lines[-1].strip() if lines else type(error).__name__


def _is_current(plan: LoadPlan, config: EtlConfig) -> bool:
    """Whether this very load is what its tables hold now, in every sink."""
    return len(_published_tables(plan, sink_settings(config, plan))) == len(plan.tables)


def _published_tables(plan: LoadPlan, sinks: SinkSettings) -> frozenset[str]:
    """Tables that this load has published whole, in every sink, and that nothing has replaced or removed since."""
    parquet, postgres = sinks.open_parquet(), sinks.open_postgres()
    tables = frozenset(table.name for table in plan.tables if parquet.published_load(table.name) == plan.load_id)
    if postgres is None:
        return tables
    try:
        postgres.prepare()  # the database may be a new one, without any books
        return frozenset(t for t in tables if postgres.published_load(t) == plan.load_id and postgres.target_exists(t))
    finally:
        postgres.close()


def _reported_tables(output: str, plan: LoadPlan) -> frozenset[str]:
    """Tables that the load's report calls published."""
    report = read_report(output, plan.load_id) or {"tables": {}}
    return frozenset(name for name, entry in report["tables"].items() if entry["published"])


def _copy_report(config: EtlConfig, report: dict[str, Any]) -> None:
    if config.report is not None:
        storage_for(config.report).write_atomic(
            config.report, json.dumps(report, ensure_ascii=False, indent=1).encode()
        )
