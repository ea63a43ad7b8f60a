"""A run of a load that leaves its traces in the audit of every sink: when it begins, and when it ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from beam_etl.loads.plan import LoadPlan, read_report
from beam_etl.loads.runs import Run, write_run
from beam_etl.postgres.audit_entries import end_run, enter_run
from beam_etl.postgres.errors import PostgresError
from beam_etl.postgres.store import PostgresStore
from beam_etl.sinks import SinkSettings

# A run that ended because PostgreSQL is away must not wait for it once more.
END_RETRY_SECONDS = 5.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def audited(run: Run, plan: LoadPlan, sinks: SinkSettings) -> Iterator[None]:
    """Enters the run, and how the block ends. A kill leaves a run without an end; that is what readers expect then.

    The end tells of what is over, so where it cannot be written the run is not failed for it.
    """
    write_run(sinks.output, run)
    postgres = sinks.open_postgres()
    try:
        if postgres is not None:
            enter_run(postgres, plan, run, sinks.output)
        try:
            yield
        except BaseException as error:
            _end(run.end("failed", str(error) or type(error).__name__), sinks)
            raise
        report = read_report(sinks.output, plan.load_id)
        _end(run.end("published" if report and report["published"] else "not_published"), sinks)
    finally:
        if postgres is not None:
            postgres.close()


def _end(run: Run, sinks: SinkSettings) -> None:
    report = read_report(sinks.output, run.load_id) or {"tables": {}}
    try:
        write_run(sinks.output, run)
        if sinks.postgres is not None:
            postgres = PostgresStore(sinks.postgres, run.load_id, sinks.postgres_schema, END_RETRY_SECONDS)
            postgres.open()
            try:
                end_run(postgres, run, report["tables"])
            finally:
                postgres.close()
    except (OSError, PostgresError) as error:
        logger.warning("how this run of load %s ended could not be entered in the audit: %s", run.load_id, error)
