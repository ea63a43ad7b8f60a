"""What planning found out about a table: one durable JSON file, from which the books are kept.

It names every file of the table as inspected or rejected, and every chunk with its spans. It is a pure function of the
plan and the bytes, so whoever writes it writes the same; where an element was lost on the way it is incomplete, and the
books notice.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from beam_etl.loads.plan import load_directory
from beam_etl.loads.rejects import reject_to_json
from beam_etl.model import Chunk, Dialect, InspectedFile, Reject, SkippedRange, SourceFile, Span
from beam_etl.parquet.staging import safe_name
from beam_etl.storage import storage_for


@dataclasses.dataclass(frozen=True)
class FileOutcome:
    """What became of one planned file: its inspection and spans, or the reason why it was rejected."""

    source: SourceFile
    inspected: InspectedFile | None = None
    spans: tuple[Span, ...] = ()
    reject: Reject | None = None


@dataclasses.dataclass(frozen=True)
class TablePlan:
    """The planned files of a table and its chunks.

    Attributes:
      table: its name.
      inspected: file_id -> how the file is written.
      rejected: file_id -> its reject, as in the rejects' JSON lines.
      chunks: chunk_id -> its spans as (file_id, start, end).
    """

    table: str
    inspected: Mapping[int, InspectedFile]
    rejected: Mapping[int, Mapping[str, Any]]
    chunks: Mapping[str, tuple[tuple[int, int, int], ...]]


def _path(output: str, load_id: str, table: str) -> str:
    return f"{load_directory(output, load_id)}/tables/{safe_name(table)}.json"


def write_table_plan(
    output: str, load_id: str, table: str, outcomes: Iterable[FileOutcome], chunks: Iterable[Chunk]
) -> None:
    outcomes = sorted(outcomes, key=lambda o: o.source.file_id)
    values = {
        "table": table,
        "inspected": [dataclasses.asdict(o.inspected) for o in outcomes if o.inspected is not None],
        "rejected": [
            {"file_id": o.source.file_id, "reject": reject_to_json(o.reject)} for o in outcomes if o.reject is not None
        ],
        "chunks": {c.chunk_id: [(s.file.source.file_id, s.start, s.end) for s in c.spans] for c in chunks},
    }
    path = _path(output, load_id, table)
    storage_for(path).write_atomic(path, json.dumps(values, ensure_ascii=False).encode())


def read_table_plan(output: str, load_id: str, table: str) -> TablePlan | None:
    """None where planning never reached the table."""
    path = _path(output, load_id, table)
    storage = storage_for(path)
    if storage.stat(path) is None:
        return None
    values = json.loads(storage.read_bytes(path))
    inspected = [_inspected(file) for file in values["inspected"]]
    return TablePlan(
        table=table,
        inspected={file.source.file_id: file for file in inspected},
        rejected={entry["file_id"]: entry["reject"] for entry in values["rejected"]},
        chunks={chunk_id: tuple((f, s, e) for f, s, e in spans) for chunk_id, spans in values["chunks"].items()},
    )


def _inspected(values: Mapping[str, Any]) -> InspectedFile:
    return InspectedFile(
        **{
            **values,
            "source": SourceFile(**values["source"]),
            "dialect": Dialect(**values["dialect"]),
            "columns": tuple(values["columns"]),
            "skipped": tuple(SkippedRange(**skipped) for skipped in values["skipped"]),
            "evidence": tuple(values["evidence"]),
        }
    )
