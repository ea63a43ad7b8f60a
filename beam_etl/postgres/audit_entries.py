"""The audit's rows about a load: one transaction when a run begins, one when it ends, none in between.

What is published is in table_loads, which the publishing transaction itself writes; nothing here says it again, so the
two cannot disagree. After a kill the end is missing, and the views tell the state from the ledger and the leases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from beam_etl.loads.plan import LoadPlan
from beam_etl.loads.runs import Run
from beam_etl.loads.table_state import file_key
from beam_etl.model import SourceFile
from beam_etl.postgres.session import Connection
from beam_etl.postgres.store import PostgresStore


def enter_run(store: PostgresStore, plan: LoadPlan, run: Run, output: str) -> None:
    """Enters the load, its tables and files where they are not yet known, and this run. Idempotent."""

    def work(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO beam_etl.loads (load_id, target_schema, output, planned_at, chunk_bytes) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (load_id) DO UPDATE SET output = excluded.output, "
            "planned_at = excluded.planned_at, chunk_bytes = excluded.chunk_bytes",
            [plan.load_id, store.target_schema, output, plan.created, plan.chunk_bytes],
        )
        tables = sorted({file.table for file in (*plan.files, *plan.skipped)})
        planned = {table.name for table in plan.tables}
        connection.execute(
            "INSERT INTO beam_etl.load_tables (load_id, table_name, mode) "
            "SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
            [plan.load_id, tables, [plan.mode_of(table) if table in planned else "append" for table in tables]],
        )
        _enter_files(connection, plan.load_id, plan.files, skipped=False)
        _enter_files(connection, plan.load_id, plan.skipped, skipped=True)
        values = dataclasses.asdict(run)
        connection.execute(
            "INSERT INTO beam_etl.load_runs (load_id, run, started_at, os_user, host, pid, version, python, runner, command) "
            "VALUES (%(load_id)s, %(run)s, %(started)s, %(user)s, %(host)s, %(pid)s, %(version)s, %(python)s, %(runner)s, "
            "%(command)s) ON CONFLICT DO NOTHING",
            values,
        )

    store.run(work)


def end_run(store: PostgresStore, run: Run, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Enters how a run ended, and what the load's report says of each table. Idempotent.

    Args:
      tables: the entries of report.json; {} where there is none.
    """

    def work(connection: Connection) -> None:
        connection.execute(
            "UPDATE beam_etl.load_runs SET ended_at = %(ended)s, outcome = %(outcome)s, reason = %(reason)s "
            "WHERE load_id = %(load_id)s AND run = %(run)s",
            dataclasses.asdict(run),
        )
        for name, entry in tables.items():
            connection.execute(
                "UPDATE beam_etl.load_tables SET records_in = %s, rows = %s, rejects = %s, rejected_files = %s, "
                "reasons = %s, ended_at = %s WHERE load_id = %s AND table_name = %s",
                [
                    *(entry["records_in"], entry["rows"], entry["rejects"], entry["rejected_files"]),
                    *(list(entry["reasons"]), run.ended, run.load_id, name),
                ],
            )

    store.run(work)


def _enter_files(connection: Connection, load_id: str, files: Sequence[SourceFile], skipped: bool) -> None:
    columns = [
        [file.file_id for file in files],
        [file.table for file in files],
        [file_key(file) for file in files],
        [file.uri for file in files],
        [file.member for file in files],
        [file.version for file in files],
        [file.size_bytes for file in files],
    ]
    connection.execute(
        "INSERT INTO beam_etl.load_files "
        "(load_id, skipped, file_id, table_name, file_key, uri, member, version, size_bytes) "
        "SELECT %s, %s, * FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[]) "
        "ON CONFLICT DO NOTHING",
        [load_id, skipped, *columns],
    )
