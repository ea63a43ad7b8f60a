"""CollectEvidence: Chunk -> (table, TableSchema) of the tables in conflict. Pure: a retry collects the same.

The first misfit alone is not enough: 12/25 in one chunk and 25/12 in another fit no date format together. So the columns
in conflict are read in every chunk of their table, and the schema is what inference from all records would have given.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam

from beam_etl.model import Chunk
from beam_etl.reading.evidence import SeenColumn, TableDeclaration, full_evidence, widen_schema
from beam_etl.schema import TableSchema
from transforms.infer_schemas import MergeEvidenceFn


@dataclasses.dataclass
class CollectEvidence(beam.PTransform):
    """Widened schemas.  Chunk -> (table, TableSchema)

    Attributes:
      conflicts: (table, columns in conflict), any number for a table.
      schemas: (table, TableSchema) of the first attempt.
      declarations: table -> what is declared of its columns.
      max_record_bytes: longest record in bytes.
    """

    conflicts: beam.PCollection[tuple[str, frozenset[str]]]
    schemas: beam.PCollection[tuple[str, TableSchema]]
    declarations: Mapping[str, TableDeclaration]
    max_record_bytes: int

    def expand(self, chunks: beam.PCollection[Chunk]) -> beam.PCollection[tuple[str, TableSchema]]:
        names = self.conflicts | "JoinColumns" >> beam.CombinePerKey(_JoinColumnsFn())
        return (
            chunks
            | "SpreadChunks" >> beam.Reshuffle()
            | "ReadConflictingColumns"
            >> beam.ParDo(
                _ReadConflictingColumnsFn(dict(self.declarations), self.max_record_bytes),
                beam.pvalue.AsDict(names),
            )
            | "MergeEvidence" >> beam.CombinePerKey(MergeEvidenceFn())
            | "WidenSchema" >> beam.ParDo(_WidenSchemaFn(), beam.pvalue.AsDict(self.schemas))
        )


class _JoinColumnsFn(beam.CombineFn):
    """Joins the columns in conflict of a table."""

    def create_accumulator(self) -> frozenset[str]:
        return frozenset()

    def add_input(self, accumulator: frozenset[str], element: frozenset[str]) -> frozenset[str]:
        return accumulator | element

    def merge_accumulators(self, accumulators: Iterable[frozenset[str]]) -> frozenset[str]:
        return frozenset().union(*accumulators)

    def extract_output(self, accumulator: frozenset[str]) -> frozenset[str]:
        return accumulator


class _ReadConflictingColumnsFn(beam.DoFn):
    def __init__(self, declarations: dict[str, TableDeclaration], max_record_bytes: int) -> None:
        self._declarations = declarations
        self._max_record_bytes = max_record_bytes

    def process(
        self, chunk: Chunk, conflicts: Mapping[str, frozenset[str]]
    ) -> Iterator[tuple[str, dict[str, SeenColumn]]]:
        names = conflicts.get(chunk.table)
        if names:
            declaration = self._declarations.get(chunk.table, TableDeclaration())
            evidence = full_evidence(chunk, declaration, names, self._max_record_bytes)
            yield chunk.table, {name: seen for name, seen in evidence.items() if name in names}


class _WidenSchemaFn(beam.DoFn):
    def process(
        self, element: tuple[str, dict[str, SeenColumn]], schemas: Mapping[str, TableSchema]
    ) -> Iterator[tuple[str, TableSchema]]:
        table, evidence = element
        yield table, widen_schema(schemas[table], evidence)
