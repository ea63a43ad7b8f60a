"""A chunk's bytes and a table's schema in; an Arrow table, counts, rejects and conflicts out: automaton plus fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_etl.model import REJECT_CODES, Chunk, Reject, Span, SpanCount
from beam_etl.reading.automaton import MALFORMED, RAGGED, TOO_LONG, IndexedRecords, count_lines
from beam_etl.reading.chunk_reader import KEPT_BUFFER_BYTES, LARGEST_SPAN_BYTES, Bytes, read_span
from beam_etl.reading.field_index import FieldIndex
from beam_etl.reading.fields import (
    MISFIT_NUL,
    MISFIT_UNDECODABLE,
    MISFIT_VALUE,
    ColumnResult,
    TextRules,
    convert_column,
    convert_columns,
)
from beam_etl.reading.ragged import padded_of, read_file_records
from beam_etl.schema import RESCUED, STRING, ColumnSchema, TableSchema

_BROKEN_CODES = {RAGGED: "ragged_record", MALFORMED: "malformed_quoting", TOO_LONG: "record_too_long"}
MISFIT_NULL_KEY = 16  # besides the kernels' own: the value fits, but is NULL in a column of the key
_MISFIT_CODES = {
    MISFIT_VALUE: "bad_value",
    MISFIT_UNDECODABLE: "undecodable",
    MISFIT_NUL: "nul_character",
    MISFIT_NULL_KEY: "null_key",
}


# A reject keeps its bytes for repair and replay; of an endless record the head and the place in the file must do.
MAX_RAW_BYTES = 1 << 20

# (ordinal, start, end, column, code, reason) of one rejected record, offsets relative to its span
_Found = tuple[int, int, int, str, str, str]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A converted chunk, or one span of it.

    Attributes:
      table: the accepted records, in file order.
      counts: one for each span.
      conflicts: inferred columns in which a value did not fit. With any of them the table must not be committed.
    """

    table: pa.Table
    counts: tuple[SpanCount, ...]
    conflicts: frozenset[str]


@dataclasses.dataclass(frozen=True)
class _Misfits:
    """Which records of an index do not fit, and the first column at fault. Each array has shape (n_records,)."""

    code: npt.NDArray[np.uint8]
    column: npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns of the records of an index.

    Attributes:
      arrays: one for each column of the schema.
      misfits: the records that do not fit.
      conflicts: inferred columns in which a value did not fit, and which widen.
      rescued: record -> {column: text} of what was rescued of it, in the order of the schema.
    """

    arrays: list[pa.Array]
    misfits: _Misfits
    conflicts: frozenset[str]
    rescued: dict[int, dict[str, str]]


def convert_chunk(
    chunk: Chunk,
    schema: TableSchema,
    max_record_bytes: int,
    reject_nul: bool,
    on_reject: Callable[[Reject], None],
    load_id: str = "",
) -> Conversion:
    """Reads and converts all spans of a chunk; every rejected record goes to on_reject, in file order.

    Args:
      load_id: fills the column of that name.

    Raises:
      ChangedFileError: a file is no longer the one that was inspected.
    """
    parts = [
        convert_span(read_span(span), span, schema, max_record_bytes, reject_nul, on_reject, span_index, load_id)
        if span.bytes <= LARGEST_SPAN_BYTES
        else _refuse_span(span, schema, on_reject, span_index)
        for span_index, span in enumerate(chunk.spans)
    ]
    return Conversion(
        table=pa.concat_tables([part.table for part in parts]),
        counts=tuple(count for part in parts for count in part.counts),
        conflicts=frozenset[str]().union(*(part.conflicts for part in parts)),
    )


def convert_span(
    data: Bytes,
    span: Span,
    schema: TableSchema,
    max_record_bytes: int,
    reject_nul: bool,
    on_reject: Callable[[Reject], None],
    span_index: int = 0,
    load_id: str = "",
) -> Conversion:
    """Converts one span.

    Args:
      data: uint8, (span.bytes,): its bytes, starting at a record start.
      span_index: position of the span in its chunk, kept in its rejects.
      load_id: fills the column of that name.
    """
    dialect = span.file.dialect
    records = read_file_records(data, span.file, max_record_bytes)
    rules = TextRules(dialect.encoding, dialect.quote, dialect.escape, reject_nul)
    columns = _convert_columns(records, span.file.columns, schema, rules)
    misfits, conflicts = columns.misfits, columns.conflicts
    starts, ends = records.record_extents()
    for position, column in enumerate(schema.columns):
        if column.source:
            columns.arrays[position] = _computed(column.source, span, load_id, starts, columns.rescued)
    table = pa.Table.from_arrays(columns.arrays, schema=schema.arrow)
    rejected = misfits.code != 0
    if rejected.any():
        table = table.filter(pa.array(~rejected))
    if not conflicts:
        for reject in _rejects(data, span, span_index, records, schema, misfits):
            on_reject(reject)
    rescued = [len(texts) for record, texts in columns.rescued.items() if not rejected[record]]
    count = SpanCount(
        file_id=span.file.source.file_id,
        start=span.start,
        end=span.end,
        records=records.n_records,
        rejects=len(records.broken_starts) + int(rejected.sum()),
        rejected_bytes=int((records.broken_ends - records.broken_starts).sum()) + int((ends - starts)[rejected].sum()),
        lines=count_lines(data, dialect.line_end),
        skipped_lines=records.skipped_lines,
        padded=int((padded_of(records) & ~rejected).sum()),
        misfits=int((misfits.code == MISFIT_VALUE).sum()),
        rescued=sum(rescued),
    )
    return Conversion(table, (count,), conflicts)


def _convert_columns(
    records: IndexedRecords, names: tuple[str, ...], schema: TableSchema, rules: TextRules
) -> _Columns:
    """Every column of the schema; those that the file does not have are NULL."""
    n_records = records.index.n_records
    fields = {name: field for field, name in enumerate(names)}
    present = [
        (position, column)
        for position, column in enumerate(schema.columns)
        if column.name in fields and not column.source
    ]
    results = convert_columns(records.index, [(fields[column.name], column) for _, column in present], rules)
    arrays = {position: result.array for (position, _), result in zip(present, results, strict=True)}
    misfits = _Misfits(np.zeros(n_records, dtype=np.uint8), np.zeros(n_records, dtype=np.int32))
    conflicts: set[str] = set()
    rescued: dict[int, dict[str, str]] = {}
    for (position, column), result in zip(present, results, strict=True):
        if result.misfits is None:
            continue
        if column.on_conflict == "rescue":
            _rescue(records.index, fields[column.name], column.name, result, rules, rescued)
        if column.widens and (result.misfits == MISFIT_VALUE).any():
            conflicts.add(column.name)
        first = (misfits.code == 0) & (result.misfits != 0)
        misfits.code[first] = result.misfits[first]
        misfits.column[first] = position
    filled = [
        arrays[position] if position in arrays else pa.nulls(n_records, column.type.arrow)
        for position, column in enumerate(schema.columns)
    ]
    for position, column in enumerate(schema.columns):
        if column.key_place and filled[position].null_count:
            first = (misfits.code == 0) & filled[position].is_null().to_numpy(zero_copy_only=False)
            misfits.code[first] = MISFIT_NULL_KEY
            misfits.column[first] = position
    return _Columns(filled, misfits, frozenset(conflicts), rescued)


def _rescue(
    index: FieldIndex,
    field: int,
    name: str,
    result: ColumnResult,
    rules: TextRules,
    rescued: dict[int, dict[str, str]],
) -> None:
    """Takes the texts of the values that do not fit out of the misfits; bytes that are no text stay among them."""
    misfits = result.misfits
    records = np.flatnonzero(misfits == MISFIT_VALUE) if misfits is not None else ()
    if misfits is None or not len(records):
        return
    text = convert_column(index, field, ColumnSchema(name, STRING, declared=True), rules)
    misfits[records] = text.misfits[records] if text.misfits is not None else 0
    for record in records[misfits[records] == 0].tolist():
        rescued.setdefault(record, {})[name] = text.array[record].as_py()


def _computed(
    source: str, span: Span, load_id: str, starts: npt.NDArray[np.int64], rescued: dict[int, dict[str, str]]
) -> pa.Array:
    """A column that no file has."""
    if source == RESCUED:
        texts = np.full(len(starts), None, dtype=object)
        for record, values in rescued.items():
            texts[record] = json.dumps(values, ensure_ascii=False)
        return pa.array(texts, pa.string())
    if source == "_byte_start":
        return pa.array(starts + span.start, pa.int64())
    file = span.file.source
    text = {"_file": f"{file.uri}{'!' + file.member if file.member else ''}", "_load_id": load_id}[source]
    return pa.repeat(pa.scalar(text, pa.string()), len(starts))


def _rejects(
    data: Bytes, span: Span, span_index: int, records: IndexedRecords, schema: TableSchema, misfits: _Misfits
) -> Iterator[Reject]:
    """The rejected records of a span in file order, numbered from the start of the span."""
    line, counted = 1, 0
    for ordinal, start, end, column, code, reason in sorted(
        [*_broken(records, len(span.file.columns)), *_misfit(records, schema, misfits)]
    ):
        line += count_lines(data[counted:start], span.file.dialect.line_end)
        counted = start
        yield _reject(span, span_index, (ordinal, start, end, column, code, reason), line, data[start:end])


def _reject(span: Span, span_index: int, found: _Found, line: int, raw: Bytes) -> Reject:
    ordinal, start, end, column, code, reason = found
    if end - start > MAX_RAW_BYTES:
        reason += f"; only the first {MAX_RAW_BYTES} of its {end - start} bytes are kept here"
    return Reject(
        file=span.file.source.uri,
        member=span.file.source.member,
        record=ordinal + 1,
        line=line,
        byte_start=span.start + start,
        byte_end=span.start + end,
        column=column,
        code=code,
        reason=reason,
        raw=raw[:MAX_RAW_BYTES].tobytes(),
        encoding=span.file.dialect.encoding,
        span_index=span_index,
    )


def _refuse_span(span: Span, schema: TableSchema, on_reject: Callable[[Reject], None], span_index: int) -> Conversion:
    """A span that is too long to be read at once, as the one record without end that it holds."""
    code = "record_too_long"
    head = read_span(dataclasses.replace(span, end=span.start + MAX_RAW_BYTES))
    on_reject(_reject(span, span_index, (0, 0, span.bytes, "", code, REJECT_CODES[code]), 1, head))
    lines = 0
    for start in range(span.start, span.end, KEPT_BUFFER_BYTES):
        block = dataclasses.replace(span, start=start, end=min(start + KEPT_BUFFER_BYTES, span.end))
        lines += count_lines(read_span(block), span.file.dialect.line_end)
    count = SpanCount(span.file.source.file_id, span.start, span.end, 1, 1, span.bytes, lines)
    return Conversion(schema.arrow.empty_table(), (count,), frozenset())


def _broken(records: IndexedRecords, n_fields: int) -> Iterator[_Found]:
    """Records whose quoting, length or number of fields is at fault."""
    for ordinal, start, end, code_number, found_fields in zip(
        records.broken_ordinals.tolist(),
        records.broken_starts.tolist(),
        records.broken_ends.tolist(),
        records.broken_codes.tolist(),
        records.broken_fields.tolist(),
        strict=True,
    ):
        code = _BROKEN_CODES[code_number]
        reason = REJECT_CODES[code]
        if code == "ragged_record":
            reason = f"{found_fields} fields where {n_fields} are expected"
        yield ordinal, start, end, "", code, reason


def _misfit(records: IndexedRecords, schema: TableSchema, misfits: _Misfits) -> Iterator[_Found]:
    """Records in which a value does not fit its column."""
    rows = np.flatnonzero(misfits.code)
    if not len(rows):
        return
    ordinals = records.ordinals()
    starts, ends = records.record_extents()
    for row in rows.tolist():
        column = schema.columns[int(misfits.column[row])]
        code = _MISFIT_CODES[int(misfits.code[row])]
        reason = _misfit_reason(column) if code == "bad_value" else REJECT_CODES[code]
        yield int(ordinals[row]), int(starts[row]), int(ends[row]), column.name, code, reason


def _misfit_reason(column: ColumnSchema) -> str:
    written = f", written {column.type.format}" if column.type.kind in ("date", "timestamp") else ""
    return f"the value is not a {column.type}{written}"
