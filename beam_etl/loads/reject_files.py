"""The rejects of a table as its user gets them: one JSON-lines file a chunk, numbered from the start of each file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from beam_etl.loads.rejects import read_staged
from beam_etl.loads.table_plan import read_table_plan
from beam_etl.model import ChunkRecord
from beam_etl.parquet.staging import safe_name
from beam_etl.storage import storage_for

Offsets = Mapping[tuple[int, int], tuple[int, int]]


def rejects_directory(output: str, load_id: str, table: str) -> str:
    return f"{output.rstrip('/')}/_beam_etl/rejects/{load_id}/{safe_name(table)}"


def write_table_rejects(output: str, load_id: str, table: str, records: Sequence[ChunkRecord]) -> int:
    """Writes all rejects of a table, those of whole files included. Returns how many there are.

    Each file replaces itself, so a second attempt changes nothing.

    Args:
      records: the commit records of the table in one sink.
    """
    directory = rejects_directory(output, load_id, table)
    table_plan = read_table_plan(output, load_id, table)
    if table_plan is None:
        return 0
    header_lines = {file_id: file.header_lines for file_id, file in table_plan.inspected.items()}
    offsets = span_offsets(records, header_lines)
    written = _write_lines(f"{directory}/files.jsonl", table_plan.rejected.values())
    for record in records:
        if record.rejects_file:
            written += _write_lines(f"{directory}/{record.chunk_id}.jsonl", absolute_rejects(record, offsets))
    return written


def span_offsets(records: Iterable[ChunkRecord], header_lines: Mapping[int, int]) -> Offsets:
    """(file_id, span start) -> (records before, lines before): the prefix sums over each file's spans.

    Args:
      header_lines: file_id -> physical lines before the file's body.
    """
    offsets: dict[tuple[int, int], tuple[int, int]] = {}
    current_file, records_before, lines_before = -1, 0, 0
    spans = [span for record in records for span in record.spans]
    for span in sorted(spans, key=lambda s: (s.file_id, s.start)):
        if span.file_id != current_file:
            current_file, records_before, lines_before = span.file_id, 0, header_lines.get(span.file_id, 0)
        offsets[span.file_id, span.start] = (records_before, lines_before)
        records_before += span.records
        lines_before += span.lines
    return offsets


def absolute_rejects(record: ChunkRecord, offsets: Offsets) -> Iterator[dict[str, Any]]:
    """The staged rejects of one chunk with record and line counted from the start of their file."""
    for reject in read_staged(record.rejects_file):
        span = record.spans[reject.pop("span_index")]
        records_before, lines_before = offsets[span.file_id, span.start]
        yield {**reject, "record": reject["record"] + records_before, "line": reject["line"] + lines_before}


def _write_lines(path: str, rejects: Iterable[Mapping[str, Any]]) -> int:
    lines = [json.dumps(reject, ensure_ascii=False).encode() + b"\n" for reject in rejects]
    if lines:
        storage_for(path).write_atomic(path, b"".join(lines))
    return len(lines)
