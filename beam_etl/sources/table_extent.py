"""Where the table starts and ends in a file: lines before the header, header rows, and what follows the last record.

What is skipped is never read, so each rule skips only what could not be a record of the table. In doubt a line stays where
it is and becomes a reject, with its reason.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from beam_etl.model import Dialect
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.header import is_total, is_value, looks_like_header, names_columns, names_value_columns
from beam_etl.sources.sample_records import SampleRecord, split_sample

_MOST_FOOTER_LINES = 8
# Below so many header rows and records two header rows can be told from one and a record.
_LEAST_ROWS_BELOW = 3
_COMMENT_LINE = re.compile(rb"\s*(?:#|%|//|--)")
_PROSE_COMMENT = re.compile(rb"#+\s+\S+\s")
_LETTER = re.compile(rb"[A-Za-z\x80-\xff]")
_WORDS = re.compile(rb"\S+\s+\S")
_CLOSING_LINE = re.compile(
    rb"\W*(?:end\b|eof\b|sources?\b|notes?\b|total|sum\b|generated|created|exported|printed|report|copyright"
    rb"|\d+ (?:row|record|line))",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class TableStart:
    """Where a table starts among the records of a file's head.

    Attributes:
      first: position of its first record, header rows included.
      header_rows: how many of its records name the columns.
      evidence: one sentence for a person.
      doubtful: the header is text above text, and could be a record.
    """

    first: int
    header_rows: int
    evidence: str
    doubtful: bool = False


def find_start(
    records: Sequence[SampleRecord],
    n_fields: int,
    declared: DeclaredDialect,
    texts: Callable[[SampleRecord], Sequence[str]],
) -> TableStart:
    """Where the table starts, and which of its first records are header.

    - Lines before the first record of full width are skipped if that one is a header and each of them has one filled cell
      at most, or any number where the header stands above numbers or dates; and if each of them is a comment; a first
      line of prose behind a # is skipped before a header even where it has as many fields.
    - Two records are header where the second, too, holds no value, but texts above two columns or more of nothing but
      numbers and dates: the names' second row, or units.

    Args:
      records: of the head, at least one.
      n_fields: what most of them have.
      texts: a record's cells as text.
    """
    full = _first_full(records, n_fields)
    comments = full if all(_COMMENT_LINE.match(record.cells[0]) for record in records[:full]) else 0
    if declared.skip_lines is not None:
        full = comments = 0
    if declared.header is False:
        return TableStart(comments, 0, "no header, as declared")
    if declared.header:
        first = full if all(_filled(record) <= 1 for record in records[:full]) else 0
        return TableStart(first, 1, "header declared")
    if declared.columns:
        return _find_declared(records, full, comments, declared, texts)
    start = _judge(records, full, n_fields)
    if full == 0:
        prose = len(records) > 1 and bool(_PROSE_COMMENT.match(records[0].cells[0]))
        below = _judge(records, 1, n_fields) if prose else start
        return below if below.header_rows else start
    strong = start.header_rows == 2 or names_value_columns(records[full], _rows(records[full + 1 :], n_fields))
    if start.header_rows and (strong or all(_filled(record) <= 1 for record in records[:full])):
        return start
    return _judge(records, comments, n_fields)


def find_footer(data: bytes, dialect: Dialect, n_fields: int, start: int) -> tuple[int, str] | None:
    """The first byte that belongs to no record at the end of a file, and the reason; None where all are records.

    - Notes: lines of one filled cell, behind a blank line, or beginning with a word that closes a report where the
      first column of the table holds nothing but values or quoted cells.
    - A row of totals: its first filled cell is a word for a total, and stands where the others have values alone, or the
      row is empty where no other is.

    Args:
      data: the end of the file's body.
      start: offset in data of a record start.
    """
    records = list(split_sample(data, dialect, True, start))
    cut = len(records)
    while cut and len(records) - cut < _MOST_FOOTER_LINES and _is_note(records[cut - 1], n_fields):
        cut -= 1
    rows = _rows(records[:cut], n_fields)
    if not rows:
        return None
    notes = records[cut:]
    unlike_rows = all(row.quoted[0] or is_value(row.cells[0]) for row in rows if not is_total(row.cells[0]))
    while notes and not (
        (notes[0].start > records[cut - 1].end and all(_WORDS.search(note.cells[0]) for note in notes))
        or (unlike_rows and all(_CLOSING_LINE.match(note.cells[0]) for note in notes))
    ):
        notes = notes[1:]
        cut += 1
    reasons = ["notes behind the table"] if notes else []
    while cut > 1 and _is_total(records[cut - 1], records[: cut - 1], n_fields):
        cut -= 1
        reasons.insert(0, "row of totals")
    if cut == len(records):
        return None
    return records[cut].start, f"footer: {' and '.join(dict.fromkeys(reasons))}"


def footer_of_lines(data: bytes, lines: int) -> int:
    """Offset in data, the end of a file, at which its last physical lines start."""
    ends = [match.end() for match in re.finditer(rb"\r\n|\n|\r", data)]
    starts = [0, *(end for end in ends if end < len(data))]
    return len(data) if not lines else starts[-lines] if lines <= len(starts) else 0


def lines_at_start(data: bytes, start: int, lines: int) -> int:
    """Offset behind so many physical lines from `start` on."""
    for match in re.finditer(rb"\r\n|\n|\r", data[start:]):
        if not lines:
            break
        lines -= 1
        if not lines:
            return start + match.end()
    return start if not lines else len(data)


def _first_full(records: Sequence[SampleRecord], n_fields: int) -> int:
    """Position of the first record of full width with more than a title in it; 0 where none is."""
    if n_fields < 2:
        return 0
    for position, record in enumerate(records):
        if len(record.cells) == n_fields and not record.malformed and _filled(record) > (1 if n_fields > 2 else 0):
            return position
    return 0


def _judge(records: Sequence[SampleRecord], first: int, n_fields: int) -> TableStart:
    """The header of a table that starts at `first`."""
    below = _rows([record for record in records[first + 1 :] if record.complete], n_fields)
    top = records[first]
    if len(below) >= _LEAST_ROWS_BELOW and below[0] is records[first + 1]:
        no_values = _filled(top) > 1 and not any(is_value(cell) for cell in top.cells)
        if no_values and len(top.cells) == n_fields and names_value_columns(below[0], below[1:], least=2):
            return TableStart(first, 2, "header of two rows: both stand above columns of numbers or dates")
    header, evidence = looks_like_header([top, *below])
    doubtful = header and bool(below) and not first and not names_value_columns(top, below)
    return TableStart(first, int(header), evidence, doubtful)


def _find_declared(
    records: Sequence[SampleRecord],
    full: int,
    comments: int,
    declared: DeclaredDialect,
    texts: Callable[[SampleRecord], Sequence[str]],
) -> TableStart:
    for first in dict.fromkeys((0, full)):
        if names_columns(texts(records[first]), declared.columns):
            return TableStart(first, 1, "header: a record of the declared columns' names")
    return TableStart(comments, 0, "no header: the first record against the declared columns")


def _rows(records: Sequence[SampleRecord], n_fields: int) -> list[SampleRecord]:
    return [record for record in records if len(record.cells) == n_fields and not record.malformed]


def _filled(record: SampleRecord) -> int:
    return sum(bool(cell.strip()) for cell in record.cells)


def _is_note(record: SampleRecord, n_fields: int) -> bool:
    first = record.cells[0]
    narrow = len(record.cells) != n_fields or n_fields > 2
    return narrow and not record.malformed and _filled(record) == 1 and bool(_LETTER.search(first))


def _is_total(record: SampleRecord, before: Sequence[SampleRecord], n_fields: int) -> bool:
    rows = _rows(before, n_fields)
    filled = [place for place, cell in enumerate(record.cells) if cell.strip()]
    if len(record.cells) != n_fields or len(filled) < 2 or not rows:
        return False
    if not is_total(record.cells[filled[0]]) or not all(is_value(record.cells[place]) for place in filled[1:]):
        return False
    if all(is_value(row.cells[filled[0]]) for row in rows):
        return True
    empty = [place for place in range(n_fields) if place not in filled]
    return any(all(row.cells[place].strip() for row in rows) for place in empty)
