"""Evidence about the columns of chunks, and the schema that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from beam_etl.model import Chunk, Dialect, InspectedFile
from beam_etl.reading.chunk_reader import LARGEST_SPAN_BYTES, Bytes, read_span
from beam_etl.reading.fields import TextRules, column_evidence
from beam_etl.reading.ragged import read_file_records
from beam_etl.schema import (
    RESCUED,
    STRING,
    ColumnEvidence,
    ColumnSchema,
    OnConflict,
    TableSchema,
    computed_column,
)


@dataclasses.dataclass(frozen=True)
class TableDeclaration:
    """What the configuration says of a table's columns.

    Attributes:
      columns: in order; those without a declared type have declared=False.
      null_markers: of every column that is not among them.
      table_columns: names of the columns that the table has before the load, in its order; each is among `columns`.
      may_add_columns: whether the table may get columns besides those.
      on_conflict: what becomes of a value that does not fit its column.
      lineage: columns that tell where a row came from.
      needed_columns: that at least one of the files must have.
    """

    columns: tuple[ColumnSchema, ...] = ()
    null_markers: tuple[str, ...] = ()
    table_columns: tuple[str, ...] = ()
    may_add_columns: bool = True
    on_conflict: OnConflict = "widen"
    lineage: tuple[str, ...] = ()
    needed_columns: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnSchema:
        found = next((column for column in self.columns if column.name == name), None)
        found = found or ColumnSchema(name, STRING, null_markers=self.null_markers)
        return dataclasses.replace(found, on_conflict=self.on_conflict)

    @property
    def computed(self) -> tuple[str, ...]:
        """The columns that no file has."""
        held = (column.name for column in self.columns if column.source)
        return (*held, *((RESCUED,) if self.on_conflict == "rescue" else ()), *self.lineage)

    def refused_columns(self, names: Collection[str]) -> list[str]:
        """Those of the columns that the table lacks and may not get, or that bear a computed column's name."""
        refused = set() if self.may_add_columns else set(names) - set(self.table_columns)
        return sorted(refused | set(names) & set(self.computed))

    def missing_columns(self, names: Iterable[str]) -> list[str]:
        """The needed columns that are not among these."""
        found = set(names)
        return [name for name in self.needed_columns if name not in found]


@dataclasses.dataclass(frozen=True)
class SeenColumn:
    """A column of a table as its files show it.

    Attributes:
      place: (file_id, position) where it comes first; orders the columns of a table.
      evidence: about its values.
    """

    place: tuple[int, int]
    evidence: ColumnEvidence = dataclasses.field(default_factory=ColumnEvidence)

    def merge(self, other: SeenColumn) -> SeenColumn:
        return SeenColumn(min(self.place, other.place), self.evidence.merge(other.evidence))


TableEvidence = Mapping[str, SeenColumn]


def merge_evidence(parts: Iterable[TableEvidence]) -> dict[str, SeenColumn]:
    """Associative, commutative and idempotent, like ColumnEvidence.merge."""
    merged: dict[str, SeenColumn] = {}
    for part in parts:
        for name, seen in part.items():
            merged[name] = merged[name].merge(seen) if name in merged else seen
    return merged


def columns_of(file: InspectedFile) -> dict[str, SeenColumn]:
    """The columns that a file has, before any of its values is seen."""
    return {name: SeenColumn((file.source.file_id, position)) for position, name in enumerate(file.columns)}


def sample_evidence(
    chunk: Chunk, declaration: TableDeclaration, sample_bytes: int, max_record_bytes: int
) -> dict[str, SeenColumn]:
    """Evidence from the head of each span of a chunk, about sample_bytes in all, at least 4 KiB a span."""
    share = max(sample_bytes // max(len(chunk.spans), 1), 1 << 12)
    parts = []
    for span in chunk.spans:
        head = dataclasses.replace(span, end=min(span.end, span.start + share))
        data = _whole_records(read_span(head), span.file.dialect, cut=head.end < span.end)
        parts.append(span_evidence(data, span.file, declaration, frozenset(span.file.columns), max_record_bytes))
    return merge_evidence(parts)


def full_evidence(
    chunk: Chunk, declaration: TableDeclaration, names: frozenset[str], max_record_bytes: int
) -> dict[str, SeenColumn]:
    """Evidence about the named columns from every record of a chunk."""
    return merge_evidence(
        span_evidence(read_span(span), span.file, declaration, names, max_record_bytes)
        for span in chunk.spans
        if span.bytes <= LARGEST_SPAN_BYTES
    )


def span_evidence(
    data: Bytes, file: InspectedFile, declaration: TableDeclaration, names: frozenset[str], max_record_bytes: int
) -> dict[str, SeenColumn]:
    """Evidence from some records of a file about those of the named columns whose type is not declared.

    Args:
      data: uint8, (n_bytes,), starting at a record start.
    """
    seen = columns_of(file)
    index = read_file_records(data, file, max_record_bytes).index
    rules = TextRules(file.dialect.encoding, file.dialect.quote, file.dialect.escape, reject_nul=False)
    for field, name in enumerate(file.columns):
        column = declaration.column(name)
        if name in names and not column.declared:
            evidence = column_evidence(index, field, column.null_markers, rules)
            seen[name] = dataclasses.replace(seen[name], evidence=evidence)
    return seen


def _whole_records(data: Bytes, dialect: Dialect, cut: bool) -> Bytes:
    """Without the last line where the data was cut inside it: a sample may miss records, but never hold a false one.

    A record cut inside quotes is malformed in the index, and so no evidence either.
    """
    if not cut:
        return data
    line_ends = np.flatnonzero(data == ord("\r" if dialect.line_end == "cr" else "\n"))
    return data[: line_ends[-1] + 1] if len(line_ends) else data[:0]


def infer_schema(evidence: TableEvidence, declaration: TableDeclaration) -> TableSchema:
    """The schema of a table: declared types win, the others follow from the evidence.

    Columns that the table has before the load come first. The others stand in the order in which the files show them
    first. Declared columns that no file has come last; they are NULL in every record.
    """
    columns = []
    for name, seen in sorted(evidence.items(), key=lambda item: item[1].place):
        column = declaration.column(name)
        if not column.declared:
            # Where nothing can be widened, a column without any value in the samples is text from the start.
            unseen = column.widens and not seen.evidence.seen
            column = dataclasses.replace(column, type=seen.evidence.best_type(), unseen=unseen)
        columns.append(column)
    columns.extend(declaration.column(column.name) for column in declaration.columns if column.name not in evidence)
    held = {column.name for column in columns}
    columns.extend(computed_column(name) for name in declaration.computed if name not in held)
    places = {name: place for place, name in enumerate(declaration.table_columns)}
    columns.sort(key=lambda column: places.get(column.name, len(places)))
    return TableSchema(tuple(columns))


def widen_schema(schema: TableSchema, evidence: TableEvidence) -> TableSchema:
    """The schema after the whole of its conflicting columns was read: what inference from every record would give."""
    return TableSchema(
        tuple(
            dataclasses.replace(column, type=evidence[column.name].evidence.best_type(), unseen=False)
            if column.name in evidence and evidence[column.name].evidence.seen
            else column
            for column in schema.columns
        )
    )
