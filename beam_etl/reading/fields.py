"""Typed, strict, vectorised kernels: one field of every record -> one Arrow column + what did not fit.

The published type table. A text that is not in it is a misfit, never changed:

  type          accepts, and keeps
  (every type)  NULL: nothing between the delimiters, or one of the column's null markers, compared with the text
                without its quotes (where escapes are backslashes: as it is written, so that \\N can be a marker).
                "" in quotes is the empty string in a string column and NULL in every other type; no other type has
                texts that are written with an escape.
  boolean       true True TRUE false False FALSE
  bigint        -?(0|[1-9][0-9]*) from -2**63 to 2**63 - 1, without -0
  decimal(p,s)  -?(0|[1-9][0-9]*)(mark[0-9]+)? with at most p - s integer digits (a single 0 counts none) and s
                fraction digits, trailing zeros included; the mark is "." or ","; -0 is 0
  double        -?(0|[1-9][0-9]*)(mark[0-9]+)?([eE][+-]?[0-9]+)? where the nearest double, written with the fewest
                digits that name it, is the same number: 0.1 and 1e22, not 1e400, 1e-400 or 0.1000000000000000055
  date          YYYY-MM-DD, YYYYMMDD, DD/MM/YYYY, MM/DD/YYYY or DD.MM.YYYY, exactly so many digits, a day of the
                Gregorian calendar from year 0001 to 9999; an inferred YYYYMMDD from 1800 to 2199
  timestamp     YYYY-MM-DD<T or space>HH:MM:SS(.[0-9]{1,6})? up to 23:59:59.999999, then its zone: none, Z, or one
                constant offset, +HH:MM or -HH:MM up to 15:59 without -00:00; with a zone it is stored in UTC, from
                year 0001 to 9999. Inferred: exactly the type's separator and zone; declared: either separator, and
                with a zone both Z and any offset
  string        what the encoding allows; NUL characters only where every sink can hold them
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from beam_etl.reading.field_index import FLAG_BITS, FieldIndex
from beam_etl.reading.field_numbers import bigint_filler, boolean_filler, decimal_digits, decimal_filler, double_filler
from beam_etl.reading.field_text import TextFiller
from beam_etl.reading.field_times import date_filler, offset_bounds, timestamp_filler
from beam_etl.reading.field_values import (
    MISFIT_NUL,
    MISFIT_UNDECODABLE,
    MISFIT_VALUE,
    ColumnFiller,
    ColumnResult,
    FieldColumn,
    Packed,
    TextRules,
    has_value,
)
from beam_etl.schema import CANDIDATES, ColumnEvidence, ColumnSchema, ColumnType

__all__ = [
    "MISFIT_NUL",
    "MISFIT_UNDECODABLE",
    "MISFIT_VALUE",
    "ColumnResult",
    "TextRules",
    "column_evidence",
    "convert_column",
    "convert_columns",
]

# Columns are filled together block by block: a block's bytes and index are fetched from memory once and then stay in
# the second-level cache for all columns.
_BLOCK_BYTES = 1 << 19

# Evidence is gathered block by block, so that a candidate costs no more than the block of its first misfit.
_FIRST_BLOCK_RECORDS = 64
_MOST_BLOCK_RECORDS = 4096


def convert_columns(
    index: FieldIndex, columns: Sequence[tuple[int, ColumnSchema]], rules: TextRules
) -> list[ColumnResult]:
    """Converts fields of every record, given as (field, its column), to the types of their columns.

    Raises:
      ValueError: the encoding is neither UTF-8 nor a one-byte, ASCII-transparent one; or a column has over 2 GiB of
        text.
    """
    n_records = index.n_records
    sources = [FieldColumn(index, field, column.null_markers, rules) for field, column in columns]
    values = [source.values(0, n_records) for source in sources]
    fillers = [_filler(column, n_records, rules) for _, column in columns]
    block_records = _block_records(index)
    for first in range(0, n_records, block_records):
        stop = min(first + block_records, n_records)
        for column_values, filler in zip(values, fillers, strict=True):
            filler.fill(column_values, first, stop)
    return [filler.finish() for filler in fillers]


def convert_column(index: FieldIndex, field: int, column: ColumnSchema, rules: TextRules) -> ColumnResult:
    """Converts one field of every record to its column's type; as convert_columns."""
    return convert_columns(index, [(field, column)], rules)[0]


def column_evidence(
    index: FieldIndex, field: int, column_null_markers: tuple[str, ...], rules: TextRules
) -> ColumnEvidence:
    """What one field of every record tells about its column's type.

    Digits (or offsets) are those of all values while the candidate they belong to is possible, and unset after that.
    """
    source = FieldColumn(index, field, column_null_markers, rules)
    if not has_value(source.values(0, index.n_records)):
        return ColumnEvidence()
    evidence, candidates = ColumnEvidence(seen=True), 0
    for bit, candidate in enumerate(CANDIDATES):
        bounds = _candidate_bounds(source, index.n_records, candidate)
        if bounds is not None:
            evidence = evidence.merge(bounds)
            candidates |= 1 << bit
    return dataclasses.replace(evidence, candidates=candidates)


def _block_records(index: FieldIndex) -> int:
    if index.n_records == 0:
        return 1
    # Padded records lie behind all others, so the first may come after the last.
    text_bytes = max((int(index.field_ends[-1, -1]) >> FLAG_BITS) - int(index.record_starts[0]), 0)
    record_bytes = text_bytes // index.n_records + index.n_fields * index.field_ends.itemsize
    return max(_BLOCK_BYTES // record_bytes, 1)


def _filler(column: ColumnSchema, n_records: int, rules: TextRules) -> ColumnFiller:
    if column.type.kind == "string":
        return TextFiller(n_records, rules, column.unseen)
    return _typed_filler(column.type, n_records, column.declared)


def _typed_filler(column_type: ColumnType, n_records: int, declared: bool) -> ColumnFiller:
    if column_type.kind == "date":
        return date_filler(column_type, n_records, declared)
    if column_type.kind == "timestamp":
        return timestamp_filler(column_type, n_records, declared)
    make = {
        "boolean": boolean_filler,
        "bigint": bigint_filler,
        "decimal": decimal_filler,
        "double": double_filler,
    }[column_type.kind]
    return make(column_type, n_records)


def _candidate_bounds(source: FieldColumn, n_records: int, candidate: ColumnType) -> ColumnEvidence | None:
    """The bounds of a candidate that every value satisfies, else None."""
    bounds = ColumnEvidence()
    first, block_records = 0, _FIRST_BLOCK_RECORDS
    while first < n_records:
        block_records = min(block_records, n_records - first)
        found = _block_bounds(source.values(first, block_records), block_records, candidate)
        if found is None:
            return None
        bounds = bounds.merge(found)
        first += block_records
        block_records = min(4 * block_records, _MOST_BLOCK_RECORDS)
    return bounds


def _block_bounds(block: Packed, n_records: int, candidate: ColumnType) -> ColumnEvidence | None:
    if candidate.kind == "decimal":
        digits = decimal_digits(block, candidate.format)
        return digits and ColumnEvidence(integer_digits=digits[0], fraction_digits=digits[1])
    if candidate.zone == "+":
        offsets = offset_bounds(block, n_records, candidate)
        return offsets and ColumnEvidence(offset_minutes=offsets)
    filler = _typed_filler(candidate, n_records, declared=False)
    filler.fill(block, 0, n_records)
    return None if filler.slots.misfit_count else ColumnEvidence()
