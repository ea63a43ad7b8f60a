"""report.json: what a load did, table by table."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.loads.plan import LoadPlan, load_directory, read_plan, read_report
from beam_etl.loads.publication import PublishedTable, read_published
from beam_etl.loads.reject_files import rejects_directory
from beam_etl.loads.table_plan import TablePlan, read_table_plan
from beam_etl.model import InspectedFile
from beam_etl.parquet.staging import safe_name
from beam_etl.sinks import SinkSettings
from beam_etl.storage import join_path, storage_for

# Of a table of many files the first ones show how the others are written, most likely.
MOST_DIALECTS = 20
LOST_TABLE = "the table never came to its end in the graph; run the same command again to resume the load"


def write_report(
    sinks: SinkSettings, tables: Sequence[PublishedTable], started: float, published: Iterable[str] = ()
) -> str:
    """Writes the report of a load and returns its path.

    Tables that an earlier run of the same load published keep their entry, whatever this run, which may be a late one,
    has to say of them; where that run died before its report, the entry follows from what it published. A planned table
    that never came to its end is reported as not published.

    Args:
      sinks: where the load landed.
      tables: that came to their end in this run.
      started: when this run started, seconds since the epoch.
      published: tables that an earlier run of this load has published.
    """
    output, load_id = sinks.output, sinks.load_id
    plan = read_plan(output, load_id)
    earlier = (read_report(output, load_id) or {"tables": {}})["tables"]
    seconds = round(time.time() - started, 3)
    kept = {name: entry for name, entry in earlier.items() if entry["published"]}
    done = {table.books.table: _entry(sinks, plan, table, seconds) for table in tables}
    for name in set(published) - kept.keys() - done.keys():
        found = read_published(name, sinks)
        if found is not None:
            done[name] = _entry(sinks, plan, found, seconds)
    entries = {}
    for name in sorted({table.name for table in plan.tables} | {file.table for file in plan.skipped}):
        entries[name] = kept.get(name) or done.get(name) or earlier.get(name) or _empty_entry(plan, name)
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


def _entry(sinks: SinkSettings, plan: LoadPlan, table: PublishedTable, seconds: float) -> dict[str, Any]:
    books = table.books
    output, load_id = sinks.output, sinks.load_id
    table_plan = read_table_plan(output, load_id, books.table)
    return {
        "mode": plan.mode_of(books.table),
        "records_in": books.records_in,
        "rows": books.rows,
        "rejects": books.rejects,
        "superseded": books.superseded,
        "deleted": books.deleted,
        "inserted": books.inserted,
        "updated": books.updated,
        "removed": books.removed,
        "padded": books.padded,
        "rescued": books.rescued,
        "rejected_files": books.rejected_files,
        "files": books.files,
        "skipped": _skipped(plan, books.table),
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


def _empty_entry(plan: LoadPlan, table: str) -> dict[str, Any]:
    """Of a table that never came to its end, or that holds all its files already, so that there was nothing to do."""
    files = plan.files_of(table)
    return {
        "mode": plan.mode_of(table) if files else "append",
        "records_in": 0,
        "rows": 0,
        "rejects": 0,
        "superseded": 0,
        "deleted": 0,
        "inserted": 0,
        "updated": 0,
        "removed": 0,
        "padded": 0,
        "rescued": 0,
        "rejected_files": 0,
        "files": len(files),
        "skipped": _skipped(plan, table),
        "bytes": sum(file.size_bytes for file in files),
        "schema": [],
        "balanced": not files,
        "published": not files,
        "reasons": [LOST_TABLE] if files else [],
        "seconds": 0.0,
        "parquet": "",
        "manifest": "",
        "rejects_directory": "",
        "dialects": [],
    }


def _skipped(plan: LoadPlan, table: str) -> int:
    return sum(file.table == table for file in plan.skipped)
