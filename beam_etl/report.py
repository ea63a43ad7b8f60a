"""report.json: what a load did, table by table."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.model import InspectedFile
from beam_etl.parquet_staging import safe_name
from beam_etl.plan import LoadPlan, load_directory, read_plan, read_report
from beam_etl.publication import PublishedTable
from beam_etl.reject_files import rejects_directory
from beam_etl.storage import join_path, storage_for
from beam_etl.table_plan import TablePlan, read_table_plan

# Of a table of many files the first ones show how the others are written, most likely.
MOST_DIALECTS = 20
LOST_TABLE = "the table never came to its end in the graph; run the same command again to resume the load"


def write_report(output: str, load_id: str, tables: Sequence[PublishedTable], started: float) -> str:
    """Writes the report of a load and returns its path.

    Tables that an earlier run of the same load published keep their entry; a planned table that never came to its end is
    reported as not published.

    Args:
      started: when this run started, seconds since the epoch.
    """
    plan = read_plan(output, load_id)
    earlier = (read_report(output, load_id) or {"tables": {}})["tables"]
    seconds = round(time.time() - started, 3)
    done = {table.books.table: _entry(output, load_id, table, seconds) for table in tables}
    entries = {}
    for declared in plan.tables:
        entry = done.get(declared.name) or earlier.get(declared.name)
        entries[declared.name] = entry or _lost_entry(plan, declared.name)
    report = {
        "load_id": load_id,
        "created": plan.created,
        "published": all(entry["published"] for entry in entries.values()),
        "seconds": seconds,
        "tables": entries,
    }
    path = f"{load_directory(output, load_id)}/report.json"
    failpoints.hit("load.before_report")
    storage_for(path).write_atomic(path, json.dumps(report, ensure_ascii=False, indent=1).encode())
    return path


def _entry(output: str, load_id: str, table: PublishedTable, seconds: float) -> dict[str, Any]:
    books = table.books
    table_plan = read_table_plan(output, load_id, books.table)
    return {
        "records_in": books.records_in,
        "rows": books.rows,
        "rejects": books.rejects,
        "rejected_files": books.rejected_files,
        "files": books.files,
        "bytes": books.bytes,
        "schema": [
            {
                "name": column.name,
                "type": str(column.type),
                "postgres": column.type.postgres,
                "declared": column.declared,
            }
            for column in table.schema.columns
        ],
        "balanced": books.balanced,
        "published": table.published,
        "reasons": list(table.reasons),
        "seconds": seconds,
        "parquet": join_path(output, safe_name(books.table)) if table.published else "",
        "manifest": table.manifest,
        "rejects_directory": rejects_directory(output, load_id, books.table)
        if books.rejects or books.rejected_files
        else "",
        "dialects": [_dialect(file) for file in _first_files(table_plan)] if table_plan else [],
    }


def _first_files(table_plan: TablePlan) -> list[InspectedFile]:
    return [table_plan.inspected[file_id] for file_id in sorted(table_plan.inspected)[:MOST_DIALECTS]]


def _dialect(file: InspectedFile) -> dict[str, Any]:
    """How a file is written, how sure that is and why, and what of it holds no record."""
    return {
        "file": file.source.uri,
        "member": file.source.member,
        **dataclasses.asdict(file.dialect),
        "columns": len(file.columns),
        "confidence": file.confidence,
        "evidence": list(file.evidence),
        "skipped": [dataclasses.asdict(part) for part in file.skipped],
    }


def _lost_entry(plan: LoadPlan, table: str) -> dict[str, Any]:
    files = plan.files_of(table)
    return {
        "records_in": 0,
        "rows": 0,
        "rejects": 0,
        "rejected_files": 0,
        "files": len(files),
        "bytes": sum(file.size_bytes for file in files),
        "schema": [],
        "balanced": False,
        "published": False,
        "reasons": [LOST_TABLE],
        "seconds": 0.0,
        "parquet": "",
        "manifest": "",
        "rejects_directory": "",
        "dialects": [],
    }
