"""Runs the program in this process, and reads back what it landed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from beam_etl.cli import main
from beam_etl.parquet.staging import safe_name


@dataclasses.dataclass(frozen=True)
class Run:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Run:
    """`python -m beam_etl` with these arguments, on a terminal wide enough for whole messages."""
    out, err = io.StringIO(), io.StringIO()
    wide = mock.patch.dict(os.environ, COLUMNS="1000")
    with wide, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def last_report(lake: Path) -> dict[str, Any]:
    """The report that was written last."""
    reports = sorted(lake.glob("_beam_etl/loads/*/report.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(reports[-1].read_text())


def parquet_table(lake: Path, table: str) -> pa.Table:
    """A published table in file order."""
    files = sorted((lake / safe_name(table)).glob("*.parquet"))
    return pa.concat_tables(pq.read_table(file) for file in files)


def parquet_rows(lake: Path, table: str) -> list[tuple[Any, ...]]:
    """The rows of a published table, sorted by their text."""
    return sorted((tuple(row.values()) for row in parquet_table(lake, table).to_pylist()), key=str)


def postgres_rows(dsn: str, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table, sorted by their text."""
    with psycopg.connect(dsn) as connection:
        return sorted(connection.execute(sql.SQL("TABLE {}").format(sql.Identifier(table))).fetchall(), key=str)


def postgres_tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


def staging_tables(dsn: str) -> set[str]:
    """The staging tables that are there, whether the books know them or not."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'beam_etl' AND tablename LIKE 'staging!_%' ESCAPE '!' "
            "AND tablename <> 'staging_tables'"
        ).fetchall()
    return {name for (name,) in rows}


def reject_lines(lake: Path, table: str, load_id: str = "*") -> list[dict[str, Any]]:
    """The rejects of a table as its user gets them, in the order of files and records."""
    paths = sorted(lake.glob(f"_beam_etl/rejects/{load_id}/{safe_name(table)}/*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def commit_records(lake: Path) -> dict[str, tuple[bytes, int]]:
    """Every commit record of the Parquet sink: its path -> its bytes and when it was written."""
    paths = [path for path in lake.glob("_beam_etl/staging/*/*/*/*.json") if not path.parent.name.startswith("_")]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
