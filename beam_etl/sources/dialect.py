"""How a file is written, detected from its first bytes: encoding, delimiter, quote, escape, line end, header.

Detection reads the sample's records under every plausible dialect (dialect_readings) and takes the one under which they
look most like a table, then looks for where that table starts (table_extent). What is declared is never second-guessed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from beam_etl.model import Dialect, LineEnd, SkippedRange
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.dialect_readings import Reading, best_reading, score_reading
from beam_etl.sources.encoding import Encoding, detect_encoding, is_transparent, transcode
from beam_etl.sources.header import clean_names, generated_names, join_names, spell_as_declared
from beam_etl.sources.sample_records import SampleRecord, cell_text
from beam_etl.sources.table_extent import find_start, lines_at_start

# Spreadsheets write this line to tell each other the delimiter.
_SEP_LINE = re.compile(rb'"?sep=(?P<delimiter>[\x01-\x09\x0b\x0c\x0e-\x7f]{1,8}?)"?(?:\r\n|\n|\r)', re.IGNORECASE)
# Two lines or more that begin with # and a blank are prose, whatever delimiters are in it.
_COMMENT_BLOCK = re.compile(rb"(?:#+(?:[ \t][^\r\n]*)?(?:\r\n|\n|\r)){2,}")


@dataclasses.dataclass(frozen=True)
class DetectedDialect:
    """How a file is written.

    Attributes:
      dialect: as the kernels need it; its encoding is "utf-8" where the file must be transcoded.
      header: whether the first record of the table names the columns.
      body_start: offset behind byte order mark, preamble and header, in the transcoded bytes where the file must be
        transcoded.
      columns: one name for each field; () for a file without records.
      header_lines: physical lines before body_start.
      confidence: 0 to 1, the share of what was sampled that fits.
      evidence: sentences for a person.
      transcode_from: the encoding that the file must be rewritten from, None where the kernels can read it.
      complete: the head was long enough to hold the first record; if not, columns and body_start mean nothing.
      skipped: what is before body_start, in order, without gaps.
      doubtful_header_lines: physical lines of a header that could just as well be a record, 0 where there is no doubt.
    """

    dialect: Dialect
    header: bool
    body_start: int
    columns: tuple[str, ...]
    header_lines: int
    confidence: float
    evidence: tuple[str, ...]
    transcode_from: str | None = None
    complete: bool = True
    skipped: tuple[SkippedRange, ...] = ()
    doubtful_header_lines: int = 0


def detect(head: bytes, declared: DeclaredDialect, is_whole: bool, windows: Sequence[bytes] = ()) -> DetectedDialect:
    """How a file is written. Never raises, whatever the bytes.

    Args:
      head: the first bytes of the file, 256 KiB or so.
      declared: what is known already.
      is_whole: head is the whole file.
      windows: samples from elsewhere in the file, for its encoding only; worth taking where head is pure ASCII.
    """
    encoding = detect_encoding(head, is_whole, declared.encoding, windows)
    transcode_from = None if is_transparent(encoding.name) else encoding.name
    if transcode_from:
        head = b"".join(transcode([head], encoding))
        if not is_whole:
            # The last character may be cut; what is escaped of it is no part of the file.
            head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
        encoding = Encoding("utf-8", 0, f"{encoding.evidence}; rewritten as UTF-8")
    if declared.delimiter and not _can_write(encoding.name, declared.delimiter):
        encoding = Encoding(
            "utf-8", 0, f"{encoding.evidence}, which cannot write the declared delimiter; read as UTF-8"
        )
    start, reason = encoding.bom_bytes, ""
    if declared.skip_lines:
        start, reason = lines_at_start(head, start, declared.skip_lines), f"{declared.skip_lines} lines, as declared"
    elif declared.skip_lines is None and (line := _SEP_LINE.match(head, start)):
        start, declared, reason = _obey(line, declared, start)
    if declared.skip_lines is None and declared.comment is None and "#" not in (declared.delimiter, declared.quote):
        comments = _COMMENT_BLOCK.match(head, start)
        if comments and not head.startswith(b"#", comments.end()):
            start, reason = comments.end(), "comments"
    reading = best_reading(head, declared, is_whole, encoding, start)
    found = _describe(head, declared, is_whole, encoding, reading, start, reason)
    return dataclasses.replace(found, transcode_from=transcode_from)


def _can_write(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _obey(line: re.Match[bytes], declared: DeclaredDialect, start: int) -> tuple[int, DeclaredDialect, str]:
    """What a sep line says is as good as declared, where nothing else is."""
    delimiter = line.group("delimiter").decode("ascii")
    if declared.delimiter not in (None, delimiter) or {declared.quote, declared.comment, '"'} & set(delimiter):
        return start, declared, ""
    return line.end(), dataclasses.replace(declared, delimiter=delimiter), "sep line"


def _describe(
    head: bytes,
    declared: DeclaredDialect,
    is_whole: bool,
    encoding: Encoding,
    reading: Reading,
    start: int,
    start_reason: str,
) -> DetectedDialect:
    """Header, names and body of the chosen reading."""
    dialect, records = reading.dialect, reading.records
    said = (f"{encoding.name}: {encoding.evidence}", *([f"skipped: {start_reason}"] if start_reason else []))
    marks = ((encoding.bom_bytes, "byte order mark"), (start, start_reason))
    if not records:
        lines = _count_lines(head[encoding.bom_bytes :], dialect.line_end)
        evidence = (*said, _dialect_evidence(declared, reading), "no records")
        skipped = _tiles((*marks, (len(head), "no records")))
        return DetectedDialect(dialect, False, len(head), (), lines, 1.0, evidence, None, is_whole, skipped)

    def texts(record: SampleRecord) -> list[str]:
        cells = zip(record.cells, record.quoted, strict=True)
        return [cell_text(cell, quoted, dialect, encoding.name) for cell, quoted in cells]

    table = find_start(records, reading.n_fields, declared, texts)
    reading = dataclasses.replace(reading, records=records[table.first :])
    if table.first and reading.n_fields > 1:
        reading = score_reading(reading)
        said = (*said, f"skipped: {table.first} lines before the table")
    before = start if not table.first else records[table.first - 1].end
    first = records[table.first]
    if table.header_rows:
        last = records[table.first + table.header_rows - 1]
        rows = [texts(record) for record in records[table.first : table.first + table.header_rows]]
        names = _fitted(join_names(rows) if len(rows) > 1 else rows[0], reading)
        columns, body_start = clean_names(spell_as_declared(names, declared.columns)), last.end
    else:
        columns, body_start = generated_names(_field_count(declared, reading), declared.columns), before
    return DetectedDialect(
        dialect=dialect,
        header=table.header_rows > 0,
        body_start=body_start,
        columns=columns,
        header_lines=_count_lines(head[encoding.bom_bytes : body_start], dialect.line_end),
        confidence=reading.confidence,
        evidence=(*said, _dialect_evidence(declared, reading), table.evidence),
        complete=first.complete or (not table.header_rows and bool(declared.columns)),
        skipped=_tiles((*marks, (before, "preamble"), (body_start, "header"))),
        doubtful_header_lines=_count_lines(head[before:body_start], dialect.line_end) if table.doubtful else 0,
    )


def _tiles(ends: Sequence[tuple[int, str]]) -> tuple[SkippedRange, ...]:
    """Ranges without gaps from 0 on, by where each ends and why it is skipped; empty ones left out."""
    ranges = []
    position = 0
    for end, reason in ends:
        if end > position:
            ranges.append(SkippedRange(position, end, reason))
            position = end
    return tuple(ranges)


def _fitted(names: list[str], reading: Reading) -> list[str]:
    """The names where either the header or all records end with a delimiter behind which nothing ever stands."""
    rows = reading.table_rows[1:]
    if len(names) == reading.n_fields - 1 and rows and not any(row.cells[-1] for row in reading.table_rows):
        return [*names, ""]
    if len(names) == reading.n_fields + 1 and not names[-1].strip():
        return names[:-1]
    return names


def _dialect_evidence(declared: DeclaredDialect, reading: Reading) -> str:
    dialect = reading.dialect
    how = "declared" if declared.delimiter else "detected"
    comment = f", comment {dialect.comment!r}" if dialect.comment else ""
    return (
        f"delimiter {dialect.delimiter!r} {how}, quote {dialect.quote!r}, escape {dialect.escape}, line end "
        f"{dialect.line_end}{comment}: {len(reading.records)} records sampled, most with {reading.n_fields} fields"
    )


def _field_count(declared: DeclaredDialect, reading: Reading) -> int:
    """Fields of a record without header: what most records have; declared columns where no record tells."""
    if any(record.complete and not record.malformed for record in reading.records) or not declared.columns:
        return max(reading.n_fields, 1)
    return len(declared.columns)


def _count_lines(data: bytes, line_end: LineEnd) -> int:
    """Physical lines, a last one without line end included."""
    pattern = {"lf": rb"\n", "cr": rb"\r", "any": rb"\r\n|\n|\r"}[line_end]
    ends = [match.end() for match in re.finditer(pattern, data)]
    return len(ends) + (len(data) > (ends[-1] if ends else 0))
