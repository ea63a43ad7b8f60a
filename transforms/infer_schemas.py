"""InferSchemas: Chunk -> (table, TableSchema), from the head of every chunk. Pure: a retry infers the same."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam

from beam_etl.model import Chunk
from beam_etl.reading.evidence import SeenColumn, TableDeclaration, infer_schema, merge_evidence, sample_evidence
from beam_etl.schema import TableSchema

# Enough records of any width to settle nearly every type, and 1/192 of a full chunk.
SAMPLE_BYTES = 128 << 10


@dataclasses.dataclass
class InferSchemas(beam.PTransform):
    """One schema a table.  (Chunk, columns of PlanChunks) -> (table, TableSchema)

    Attributes:
      declarations: table -> what is declared of its columns.
      max_record_bytes: longest record in bytes.
    """

    declarations: Mapping[str, TableDeclaration]
    max_record_bytes: int

    @beam.typehints.decorators.no_annotations  # Beam can read hints of several outputs or inputs nowhere but on DoFns
    def expand(
        self, inputs: tuple[beam.PCollection[Chunk], beam.PCollection[tuple[str, dict[str, SeenColumn]]]]
    ) -> beam.PCollection[tuple[str, TableSchema]]:
        chunks, columns = inputs
        declarations = dict(self.declarations)
        samples = (
            chunks
            | "SpreadSamples" >> beam.Reshuffle()
            | "SampleChunk" >> beam.ParDo(_SampleChunkFn(declarations, self.max_record_bytes))
        )
        return (
            (samples, columns)
            | "JoinEvidence" >> beam.Flatten()
            | "MergeEvidence" >> beam.CombinePerKey(MergeEvidenceFn())
            | "ChooseTypes" >> beam.ParDo(_ChooseTypesFn(declarations))
        )


class MergeEvidenceFn(beam.CombineFn):
    """Merges evidence about the columns of a table."""

    def create_accumulator(self) -> dict[str, SeenColumn]:
        return {}

    def add_input(self, accumulator: dict[str, SeenColumn], element: dict[str, SeenColumn]) -> dict[str, SeenColumn]:
        return merge_evidence((accumulator, element))

    def merge_accumulators(self, accumulators: Iterable[dict[str, SeenColumn]]) -> dict[str, SeenColumn]:
        return merge_evidence(accumulators)

    def extract_output(self, accumulator: dict[str, SeenColumn]) -> dict[str, SeenColumn]:
        return accumulator


class _SampleChunkFn(beam.DoFn):
    def __init__(self, declarations: dict[str, TableDeclaration], max_record_bytes: int) -> None:
        self._declarations = declarations
        self._max_record_bytes = max_record_bytes

    def process(self, chunk: Chunk) -> Iterator[tuple[str, dict[str, SeenColumn]]]:
        declaration = self._declarations.get(chunk.table, TableDeclaration())
        yield chunk.table, sample_evidence(chunk, declaration, SAMPLE_BYTES, self._max_record_bytes)


class _ChooseTypesFn(beam.DoFn):
    def __init__(self, declarations: dict[str, TableDeclaration]) -> None:
        self._declarations = declarations

    def process(self, element: tuple[str, dict[str, SeenColumn]]) -> Iterator[tuple[str, TableSchema]]:
        table, evidence = element
        declaration = self._declarations.get(table, TableDeclaration())
        # Without a schema nothing of the table is converted; the books say why.
        if not declaration.refused_columns(evidence) and not declaration.missing_columns(evidence):
            yield table, infer_schema(evidence, declaration)
