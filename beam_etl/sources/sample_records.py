"""Splits the first records of a file into cells, under any assumption about its dialect.

The records are those of the automaton: a quote opens a quoted field only where a field starts; text between a closing
quote and the next delimiter makes the record malformed and the field goes on; a line end at a record's start is a blank
line, a comment character there makes the line a comment. This reader is written for few records and many dialects, where
compiled kernels would cost more than they save.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator

from beam_etl.model import Dialect

_LINE_ENDS = {"lf": rb"\r?\n", "cr": rb"\r", "any": rb"\r\n|\n|\r"}
_LINE_END_BYTES = {"lf": rb"\n", "cr": rb"\r", "any": rb"\r\n"}


@dataclasses.dataclass(frozen=True)
class SampleRecord:
    """One record.

    Attributes:
      start: offset of its first byte.
      end: offset just behind its line end.
      cells: the fields without quotes around them, escapes as written.
      quoted: which of them were quoted.
      malformed: its quoting is.
      complete: it ends within the sample: by a line end, or where the file ends.
    """

    start: int
    end: int
    cells: tuple[bytes, ...]
    quoted: tuple[bool, ...]
    malformed: bool
    complete: bool


@dataclasses.dataclass(frozen=True)
class _Patterns:
    blank: re.Pattern[bytes]
    line_end: re.Pattern[bytes]
    plain_field: re.Pattern[bytes]
    quoted_field: re.Pattern[bytes] | None
    closing: re.Pattern[bytes] | None
    after: re.Pattern[bytes]


def split_sample(data: bytes, dialect: Dialect, is_whole: bool, start: int = 0) -> Iterator[SampleRecord]:
    """The records of data from `start` on, blank lines and comments left out.

    Args:
      data: the first bytes of a file.
      is_whole: data is the whole file, so a record that it ends in is complete.
    """
    if not is_whole and data.endswith(b"\r"):
        data = data[:-1]  # half of a line end, perhaps
    patterns = _patterns(dialect)
    delimiter, quote, comment = dialect.separator, dialect.quote.encode(), dialect.comment.encode()
    position = start
    while True:
        position = _match_end(patterns.blank, data, position)
        if position >= len(data):
            return
        end = patterns.line_end.search(data, position)
        stop, behind = end.span() if end else (len(data), len(data))
        if comment and data.startswith(comment, position):
            position = behind
            continue
        line = data[position:stop]
        if (quote and quote in line) or dialect.escape == "backslash":
            record = _split_fields(data, position, patterns, dialect, is_whole)
        else:
            cells = tuple(line.split(delimiter))
            record = SampleRecord(position, behind, cells, (False,) * len(cells), False, end is not None or is_whole)
        yield record
        position = record.end


def cell_text(cell: bytes, quoted: bool, dialect: Dialect, encoding: str) -> str:
    """A cell's value, escapes undone; what the encoding does not allow is replaced."""
    quote = dialect.quote.encode()
    if dialect.escape == "backslash":
        cell = re.sub(rb"\\(.)", rb"\1", cell, flags=re.DOTALL)
    elif quoted and dialect.escape == "doubled":
        cell = cell.replace(quote + quote, quote)
    return cell.decode(encoding, "replace")


@functools.lru_cache(maxsize=256)
def _patterns(dialect: Dialect) -> _Patterns:
    delimiter, quote = re.escape(dialect.separator), re.escape(dialect.quote.encode())
    line_end, line_end_bytes = _LINE_ENDS[dialect.line_end], _LINE_END_BYTES[dialect.line_end]
    after = rb"(?:(?P<delimiter>" + delimiter + rb")|(?P<line_end>" + line_end + rb")|\Z)"
    if len(dialect.separator) == 1:
        plain_byte = rb"[^" + delimiter + line_end_bytes
    else:
        plain_byte = rb"(?!" + delimiter + rb")[^" + line_end_bytes
    plain = rb"(?:" + plain_byte + rb"])*"
    inner, closing = rb"[^" + quote + rb"]*", rb"(?P<quote>" + quote + rb")"
    if dialect.escape == "doubled":
        inner = rb"[^Q]*(?:QQ[^Q]*)*".replace(b"Q", quote)
        closing = rb"QQ|(?P<quote>Q)".replace(b"Q", quote)
    elif dialect.escape == "backslash":
        plain = rb"(?:" + plain_byte + rb"\\]|\\.)*"
        inner = rb"[^Q\\]*(?:\\.[^Q\\]*)*".replace(b"Q", quote)
        closing = rb"\\.|(?P<quote>Q)".replace(b"Q", quote)
    return _Patterns(
        blank=re.compile(rb"(?:" + line_end + rb")*"),
        line_end=re.compile(line_end),
        plain_field=re.compile(plain, re.DOTALL),
        quoted_field=re.compile(quote + rb"(?P<content>" + inner + rb")" + quote + after, re.DOTALL) if quote else None,
        closing=re.compile(closing, re.DOTALL) if quote else None,
        after=re.compile(after),
    )


def _split_fields(data: bytes, position: int, patterns: _Patterns, dialect: Dialect, is_whole: bool) -> SampleRecord:
    """One record that starts at position, field by field."""
    start = position
    quote = dialect.quote.encode()
    cells: list[bytes] = []
    quoted: list[bool] = []
    malformed = False
    while True:
        is_quoted = bool(quote) and data.startswith(quote, position)
        if is_quoted:
            cell, after, well_formed = _quoted_field(data, position, patterns)
            malformed |= not well_formed
        else:
            end = _match_end(patterns.plain_field, data, position)
            cell, after = data[position:end], patterns.after.match(data, end)
            if after and after.lastgroup == "line_end" and dialect.line_end == "lf":
                cell = cell.removesuffix(b"\r")
        cells.append(cell)
        quoted.append(is_quoted)
        if after is None or after.lastgroup != "delimiter":
            complete = is_whole or (after is not None and after.lastgroup == "line_end")
            end = after.end() if after else len(data)
            return SampleRecord(start, end, tuple(cells), tuple(quoted), malformed, complete)
        position = after.end()


def _quoted_field(data: bytes, position: int, patterns: _Patterns) -> tuple[bytes, re.Match[bytes] | None, bool]:
    """A quoted field's content, what follows it (None: it is never closed), and whether it is well-formed."""
    assert patterns.quoted_field and patterns.closing
    match = patterns.quoted_field.match(data, position)
    if match:
        return match.group("content"), match, True
    start = position = position + 1
    while quote := patterns.closing.search(data, position):
        after = patterns.after.match(data, quote.end()) if quote.lastgroup == "quote" else None
        if after:
            return data[start : quote.start()], after, False
        position = quote.end()
    return data[start:], None, False


def _match_end(pattern: re.Pattern[bytes], data: bytes, position: int) -> int:
    """Where a pattern that also matches nothing ends."""
    match = pattern.match(data, position)
    return match.end() if match else position
