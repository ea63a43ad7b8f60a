"""The frozen dataclasses that travel through the graph: small, hashable, without data in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Escape = Literal["doubled", "backslash", "none"]
LineEnd = Literal["lf", "cr", "any"]
OnRagged = Literal["reject", "pad"]

MOST_DELIMITER_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Attributes:
      encoding: Python codec name of the plain bytes: "utf-8", "iso-8859-1" or another one-byte, ASCII-transparent codec.
      delimiter: what stands between fields: one character or several, 1 to 16 bytes in the file's encoding.
      quote: one ASCII character, or "" where quoting has no meaning.
      escape: how a quote stands inside a quoted field: twice, after a backslash, or never.
      line_end: "lf" (LF or CRLF), "cr" (CR alone), "any" (LF, CRLF and lone CR all end a record).
      comment: one ASCII character that, at the start of a record, makes the line a comment; or "".
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    escape: Escape = "doubled"
    line_end: LineEnd = "lf"
    comment: str = ""

    @property
    def separator(self) -> bytes:
        """The delimiter as the file's bytes have it.

        Raises:
          ValueError: the encoding cannot write it.
        """
        return self.delimiter.encode(self.encoding)


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One planned input: a plain file, a compressed file, or one member of an archive.

    Attributes:
      file_id: position in the plan, from 0; the order of files everywhere.
      uri: local path or gs:// address of the file as given.
      member: name inside the archive, "" for a file that is not an archive.
      table: the table it belongs to.
      size_bytes: size of the object at uri (not of the unpacked member).
      version: identifies the bytes at uri: "<size>-<mtime_ns>" locally, the generation on an object store.
      container: "none", "gzip", "bz2", "xz", "zstd", "zip", "tar", or "tar.gzip" and so on.
    """

    file_id: int
    uri: str
    member: str
    table: str
    size_bytes: int
    version: str
    container: str = "none"


@dataclasses.dataclass(frozen=True)
class SkippedRange:
    """Bytes [start, end) of a file that hold no record, and why: "byte order mark", "preamble", "header", ..."""

    start: int
    end: int
    reason: str


@dataclasses.dataclass(frozen=True)
class InspectedFile:
    """A source file whose writing is known and whose plain bytes can be read at `path`.

    Attributes:
      source: the planned file.
      path: where the plain bytes are: the file itself, or its staged, unpacked, ASCII-transparent copy.
      path_bytes: size of the object at path.
      path_version: version of the object at path, checked again when a chunk is read.
      dialect: how it is written.
      body_start: offset of the first record's first byte in path.
      columns: one name per field, from the header, from the configuration, or generated (column_1, ...).
      header_lines: physical lines before body_start.
      footer_bytes: bytes behind the last record that hold none.
      skipped: in order; they tile [0, body_start) and [body_end, path_bytes).
      doubtful_header_lines: physical lines of a header that could just as well be a record; 0 where there is no doubt.
      confidence: of the dialect, 0 to 1.
      evidence: of the dialect, sentences for a person.
      on_ragged: what becomes of a record with more or fewer fields than there are columns.
    """

    source: SourceFile
    path: str
    path_bytes: int
    path_version: str
    dialect: Dialect
    body_start: int
    columns: tuple[str, ...]
    header_lines: int = 0
    footer_bytes: int = 0
    skipped: tuple[SkippedRange, ...] = ()
    doubtful_header_lines: int = 0
    confidence: float = 1.0
    evidence: tuple[str, ...] = ()
    on_ragged: OnRagged = "reject"

    @property
    def body_end(self) -> int:
        """Where the records end; they are in [body_start, body_end)."""
        return self.path_bytes - self.footer_bytes


@dataclasses.dataclass(frozen=True)
class Span:
    """Record-aligned byte range [start, end) of an inspected file's plain bytes."""

    file: InspectedFile
    start: int
    end: int

    @property
    def bytes(self) -> int:
        return self.end - self.start


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The unit of work, memory, retry and commit: one Arrow table, one Parquet file, one COPY transaction.

    Attributes:
      table: the table its records belong to.
      chunk_id: "<file_id:06d>-<start:014d>" of its first span; unique in a table, sorts in file order.
      spans: in file order; several where small files are packed together.
    """

    table: str
    chunk_id: str
    spans: tuple[Span, ...]

    @property
    def bytes(self) -> int:
        return sum(span.bytes for span in self.spans)


@dataclasses.dataclass(frozen=True)
class Reject:
    """A record, or a whole file, that could not be landed, with everything needed to repair and replay it.

    Attributes:
      file: uri of the source; member: name inside its archive or "".
      record: 1-based record number in the file, 0 for a rejected file. Relative to its span while staged.
      line: 1-based physical line of the record's first byte, 0 for a rejected file. Relative to its span while staged.
      byte_start, byte_end: extent [start, end) in the plain bytes of the file.
      column: name of the offending column, "" where the whole record is at fault.
      code: one of REJECT_CODES.
      reason: one sentence for a person.
      raw: the record's original bytes without its line end.
      encoding: codec the file is read with; renders raw as text.
      span_index: which span of its chunk it came from (to make record and line absolute).
    """

    file: str
    member: str
    record: int
    line: int
    byte_start: int
    byte_end: int
    column: str
    code: str
    reason: str
    raw: bytes
    encoding: str = "utf-8"
    span_index: int = 0


@dataclasses.dataclass(frozen=True)
class SpanCount:
    """What conversion counted in one span of a chunk.

    Attributes:
      file_id, start, end: the span.
      records: records found, rejected ones included; blank and comment lines are not records.
      rejects: records of the span that were rejected.
      rejected_bytes: their bytes, without line ends.
      lines: physical lines.
      skipped_lines: blank lines and comments among them.
      padded: records that were made as wide as their table, and accepted.
      misfits: records among the rejects in which a value does not fit its column.
      rescued: values that do not fit their columns and were kept beside them.
    """

    file_id: int
    start: int
    end: int
    records: int
    rejects: int
    rejected_bytes: int
    lines: int
    skipped_lines: int = 0
    padded: int = 0
    misfits: int = 0
    rescued: int = 0


@dataclasses.dataclass(frozen=True)
class ConvertedChunk:
    """What travels beside a chunk's Arrow table from conversion to the sinks.

    Attributes:
      chunk: what was converted.
      schema_hash: of the schema that it was converted with.
      spans: counts, one for each span of the chunk, in its order.
      rejects_file: path of the staged rejects of this chunk, "" when it has none.
    """

    chunk: Chunk
    schema_hash: str
    spans: tuple[SpanCount, ...]
    rejects_file: str = ""

    @property
    def records(self) -> int:
        return sum(span.records for span in self.spans)

    @property
    def rejects(self) -> int:
        return sum(span.rejects for span in self.spans)


@dataclasses.dataclass(frozen=True)
class ChunkRecord:
    """The durable commit record of one chunk in one sink; the first writer wins. Books are kept from these alone.

    Attributes:
      load_id, table, schema_hash, chunk_id, sink: the key; sink is "parquet" or "postgres".
      spans: as converted.
      rows: rows in the sink; records of the spans = rows + rejects.
      rejects: records rejected.
      file, file_bytes, checksum: the staged Parquet file, its size and its CRC-32C as 8 hex digits; empty for PostgreSQL.
      rejects_file: staged rejects of this chunk, "" when it has none.
    """

    load_id: str
    table: str
    schema_hash: str
    chunk_id: str
    sink: str
    spans: tuple[SpanCount, ...]
    rows: int
    rejects: int
    file: str = ""
    file_bytes: int = 0
    checksum: str = ""
    rejects_file: str = ""

    @property
    def records(self) -> int:
        return sum(span.records for span in self.spans)

    def log_fields(self, step: str, seconds: float) -> dict[str, object]:
        """What a log says of its commit: places and counts, never a value."""
        place = {"load_id": self.load_id, "table": self.table, "chunk": self.chunk_id}
        return {**place, "step": step, "seconds": round(seconds, 3), "rows": self.rows}

    def to_json(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ChunkRecord:
        return cls(**{**values, "spans": tuple(SpanCount(**span) for span in values["spans"])})


REJECT_CODES: dict[str, str] = {
    "ragged_record": "the record has more or fewer fields than its table's files have columns",
    "malformed_quoting": "a quoted field is followed by text before its delimiter, or is never closed",
    "record_too_long": "the record is longer than max_record_bytes",
    "bad_value": "a value does not fit the type of its column",
    "undecodable": "bytes that the file's encoding does not allow",
    "nul_character": "a NUL character, which PostgreSQL cannot hold",
    "corrupt_file": "the archive or compressed file is truncated, damaged or encrypted",
    "unreadable_file": "the file could not be opened or read",
    "changed_file": "the file changed while it was being loaded",
    "unknown_columns": "the file's columns cannot be matched with those of its table",
}
