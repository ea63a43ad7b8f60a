"""A polluted file as beam_etl reads it, and what is right and wrong about any reader's answer."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from beam_etl.model import Chunk, InspectedFile, Reject
from beam_etl.reading.csv_arrow import convert_chunk
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from beam_etl.reading.evidence import (
    TableDeclaration,
    columns_of,
    full_evidence,
    infer_schema,
    merge_evidence,
    sample_evidence,
    widen_schema,
)
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.inspection import inspect_file
from tests.awkward_archives import source_file
from tests.polluted.files import GivenDialect, PollutedFile, Row

MAX_RECORD_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader made of a file: names and cells as text, and how many records it refused aloud."""

    header: Row
    rows: tuple[Row, ...]
    rejects: int = 0


def declared_dialect(given: GivenDialect) -> DeclaredDialect:
    return DeclaredDialect(
        encoding=given.encoding,
        delimiter=given.delimiter,
        quote=given.quote,
        escape=given.escape,
        header=True if given.header_lines == 1 else False if given.header_lines == 0 else None,
        line_end=given.line_end if given.line_end in ("cr", "any") else "lf",
        comment=given.comment,
        skip_lines=given.skip_lines,
        footer_lines=given.footer_lines,
    )


def read_file(path: Path, declared: DeclaredDialect, chunk_bytes: int = 1 << 20) -> Reading | Reject:
    """Inspects, cuts, infers and converts a file with the kernel's own functions, as the graph would."""
    file = inspect_file(source_file(path), declared, str(path.parent / f"{path.name}.staged"))
    return file if isinstance(file, Reject) else read_inspected(file, chunk_bytes)


def read_inspected(file: InspectedFile, chunk_bytes: int = 1 << 20) -> Reading:
    spans = compose_spans(file, [summarise_range(range_) for range_ in cut_ranges(file, chunk_bytes)])
    chunks = [Chunk("t", f"{span.start:014d}", (span,)) for span in spans]
    nothing = TableDeclaration()
    samples = [sample_evidence(chunk, nothing, 128 << 10, MAX_RECORD_BYTES) for chunk in chunks]
    schema = infer_schema(merge_evidence([columns_of(file), *samples]), nothing)
    rejects: list[Reject] = []
    converted = [convert_chunk(chunk, schema, MAX_RECORD_BYTES, False, rejects.append) for chunk in chunks]
    conflicts = frozenset[str]().union(*(conversion.conflicts for conversion in converted))
    if conflicts:
        evidence = merge_evidence(full_evidence(chunk, nothing, conflicts, MAX_RECORD_BYTES) for chunk in chunks)
        schema = widen_schema(schema, {name: evidence[name] for name in conflicts})
        rejects.clear()
        converted = [convert_chunk(chunk, schema, MAX_RECORD_BYTES, False, rejects.append) for chunk in chunks]
    rows = [row for conversion in converted for row in table_rows(conversion.table)]
    return Reading(file.columns, tuple(rows), len(rejects))


def table_rows(table: pa.Table) -> list[Row]:
    """The rows of an Arrow table as texts; a decimal comma stands where the file had one."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        cells = [text(value) for value in column.to_pylist()]
        comma = (field.metadata or {}).get(b"beam_etl.format") == b","
        columns.append([cell.replace(".", ",") for cell in cells] if comma else cells)
    return list(zip(*columns, strict=True))


def text(value: object) -> str:
    """A typed value as the shortest text of the same value, so that readers of any type system can be compared."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        plain = value.isoformat(sep=" ")
        return plain.removesuffix(" 00:00:00") if value.time() == datetime.time() else plain
    if isinstance(value, datetime.date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, decimal.Decimal) else str(value)


def same_number(cell: str) -> str:
    """Numbers without the zeros that change nothing: 1.50 and 1.5 are one value, 00501 and 501 are not."""
    digits = cell.removeprefix("-").replace(",", ".", 1)
    if not cell.isascii() or not digits.replace(".", "", 1).isdigit() or (digits[:1] == "0" and digits[1:2] != "."):
        return cell
    if len(digits) > 25 or digits.startswith(".") or digits.endswith("."):
        return cell
    plain = format(decimal.Decimal(cell.replace(",", ".")).normalize(), "f")
    return plain.replace(".", ",") if "," in cell else plain


@dataclasses.dataclass(frozen=True)
class Match:
    """Precision and recall of one multiset against another."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a reading compares with the truth.

    Attributes:
      header, records, cells: match of the columns' names, of whole records, and of single cells.
      wrong_rows: records that were landed and are none of the truth's.
      lost_rows: records of the truth that were neither landed nor refused.
      rejects: records that were refused aloud.
    """

    header: Match
    records: Match
    cells: Match
    wrong_rows: int
    lost_rows: int
    rejects: int

    @property
    def exact(self) -> bool:
        return self.header.f1 == self.records.f1 == 1 and not self.rejects

    @property
    def silent_damage(self) -> bool:
        """Wrong or lost records, or wrong names, with nothing said."""
        return self.wrong_rows > 0 or self.lost_rows > 0 or self.header.f1 < 1


def judge(file: PollutedFile, reading: Reading) -> Verdict:
    names, landed = _without_empty_columns(file, reading)
    rows = Counter(tuple(map(same_number, row)) for row in landed)
    truth = Counter(tuple(map(same_number, row)) for row in file.rows)
    both = (rows & truth).total()
    missing = truth.total() - both
    return Verdict(
        header=Match(1.0, 1.0) if file.header is None else _match(Counter(file.header), Counter(map(str.strip, names))),
        records=_match(truth, rows),
        cells=_match(_cell_counts(truth.elements()), _cell_counts(rows.elements())),
        wrong_rows=rows.total() - both,
        lost_rows=max(0, missing - reading.rejects),
        rejects=reading.rejects,
    )


def _without_empty_columns(file: PollutedFile, reading: Reading) -> tuple[Row, list[Row]]:
    """Without last columns that the truth does not know and that hold nothing: nobody is misled by them."""
    width = max((len(row) for row in file.rows), default=len(reading.header))
    surplus = reading.header[width:]
    if not surplus or any(any(row[width:]) for row in reading.rows):
        return reading.header, list(reading.rows)
    return reading.header[:width], [row[:width] for row in reading.rows]


def _cell_counts(rows: Iterable[Row]) -> Counter[tuple[int, str]]:
    return Counter((column, cell) for row in rows for column, cell in enumerate(row))


def _match(truth: Counter[Any], found: Counter[Any]) -> Match:
    both = (truth & found).total()
    return Match(
        both / found.total() if found else float(not truth),
        both / truth.total() if truth else float(not found),
    )
