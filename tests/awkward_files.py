"""Builders of planned, inspected and chunked files for tests of single rooms."""

from __future__ import annotations

from pathlib import Path

from beam_etl.model import Chunk, Dialect, InspectedFile, SourceFile, Span
from beam_etl.storage import storage_for


def inspected_file(
    path: Path,
    data: bytes,
    columns: tuple[str, ...],
    dialect: Dialect | None = None,
    body_start: int = 0,
    table: str = "t",
    file_id: int = 0,
) -> InspectedFile:
    """Writes data to path and describes it as inspection would."""
    path.write_bytes(data)
    stat = storage_for(str(path)).stat(str(path))
    source = SourceFile(file_id, str(path), "", table, len(data), stat.version)
    header_lines = data[:body_start].count(b"\n")
    return InspectedFile(
        source, str(path), len(data), stat.version, dialect or Dialect(), body_start, columns, header_lines
    )


def whole_chunk(file: InspectedFile) -> Chunk:
    """One chunk of one span: the body of the file."""
    return Chunk(file.source.table, "000000-00000000000000", (Span(file, file.body_start, file.body_end),))
