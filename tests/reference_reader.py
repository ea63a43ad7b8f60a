"""A slow reader of delimited text, one byte after another, written from the rules and sharing no code with beam_etl.

Tests hold the compiled automaton against it.
"""

from __future__ import annotations

import dataclasses

from beam_etl.model import Dialect


@dataclasses.dataclass
class ReferenceField:
    start: int
    end: int
    quoted: bool = False
    escaped: bool = False


@dataclasses.dataclass
class ReferenceRecord:
    """kind is "record", "blank" or "comment"; end excludes the line end, next_start is behind it."""

    kind: str
    start: int
    end: int
    next_start: int
    fields: list[ReferenceField]
    malformed: bool = False


def read_records(data: bytes, dialect: Dialect) -> list[ReferenceRecord]:
    records = []
    start = 0
    while start < len(data):
        record = _read_record(data, start, dialect)
        records.append(record)
        start = record.next_start
    return records


def record_starts(data: bytes, dialect: Dialect) -> list[int]:
    """Every offset where a record, a blank line or a comment starts, or would start if data went on."""
    records = read_records(data, dialect)
    starts = [record.start for record in records]
    if not data:
        return [0]
    if records[-1].next_start > records[-1].end:  # it had a line end
        starts.append(len(data))
    return starts


def _line_end(data: bytes, at: int, dialect: Dialect) -> int:
    """Length of the line end at an offset, 0 for none."""
    wanted = {"lf": (b"\r\n", b"\n"), "cr": (b"\r",), "any": (b"\r\n", b"\n", b"\r")}[dialect.line_end]
    for text in wanted:
        if data.startswith(text, at):
            return len(text)
    return 0


def _read_record(data: bytes, start: int, dialect: Dialect) -> ReferenceRecord:
    if dialect.comment and data.startswith(dialect.comment.encode(), start):
        at = start
        while at < len(data) and not _line_end(data, at, dialect):
            at += 1
        return ReferenceRecord("comment", start, at, at + _line_end(data, at, dialect), [])
    if length := _line_end(data, start, dialect):
        return ReferenceRecord("blank", start, start, start + length, [])
    record = ReferenceRecord("record", start, start, start, [])
    at = start
    while True:
        at, malformed = _read_field(data, at, dialect, record.fields)
        record.malformed |= malformed
        if not data.startswith(dialect.separator, at):
            record.end = at
            record.next_start = at + _line_end(data, at, dialect)
            return record
        at += len(dialect.separator)


def _read_field(data: bytes, at: int, dialect: Dialect, fields: list[ReferenceField]) -> tuple[int, bool]:
    """Reads one field and returns the offset of what ended it, and whether it is malformed."""
    field = ReferenceField(at, at)
    fields.append(field)
    quote = dialect.quote.encode()
    malformed = False
    if quote and data.startswith(quote, at):
        field.quoted = True
        at += 1
        while True:
            if at == len(data):
                malformed = True
                break
            if dialect.escape == "backslash" and data.startswith(b"\\", at):
                field.escaped = True
                malformed |= at + 1 == len(data)
                at = min(at + 2, len(data))
            elif dialect.escape == "doubled" and data.startswith(quote * 2, at):
                field.escaped = True
                at += 2
            elif data.startswith(quote, at):
                at += 1
                if at == len(data) or data.startswith(dialect.separator, at) or _line_end(data, at, dialect):
                    break
                malformed = True
                at += 1
            else:
                at += 1
    else:
        while at < len(data) and not data.startswith(dialect.separator, at) and not _line_end(data, at, dialect):
            if dialect.escape == "backslash" and data.startswith(b"\\", at):
                field.escaped = True
                malformed |= at + 1 == len(data)
                at = min(at + 2, len(data))
            else:
                at += 1
    field.end = at
    return at, malformed
