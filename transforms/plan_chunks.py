"""PlanChunks: FileOutcome -> Chunk, and each table's durable table plan.

At least once; exactly once in effect, because the table plan is a pure function of the outcomes and replaces itself.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_etl.loads.table_plan import FileOutcome, write_table_plan
from beam_etl.model import Chunk
from beam_etl.progress.board import BOARD
from beam_etl.reading.chunks import pack_chunks
from beam_etl.reading.evidence import SeenColumn, columns_of, merge_evidence


class PlanChunksOutputs(NamedTuple):
    """chunks: of all tables. columns: each table's columns as its files show them, before any value is seen."""

    chunks: beam.PCollection[Chunk]
    columns: beam.PCollection[tuple[str, dict[str, SeenColumn]]]


@dataclasses.dataclass
class PlanChunks(beam.PTransform):
    """Packs each table's spans into chunks and writes its table plan.  FileOutcome -> PlanChunksOutputs"""

    output: str
    load_id: str
    chunk_bytes: int

    @beam.typehints.decorators.no_annotations  # Beam can read hints of several outputs or inputs nowhere but on DoFns
    def expand(self, outcomes: beam.PCollection[FileOutcome]) -> PlanChunksOutputs:
        planned = (
            outcomes
            | "KeyByTable" >> beam.ParDo(_KeyByTableFn())
            | "GroupByTable" >> beam.GroupByKey()
            | "PlanTable"
            >> beam.ParDo(_PlanTableFn(self.output, self.load_id, self.chunk_bytes)).with_outputs(
                _PlanTableFn.COLUMNS, main="chunks"
            )
        )
        return PlanChunksOutputs(planned.chunks, planned[_PlanTableFn.COLUMNS])


class _KeyByTableFn(beam.DoFn):
    def process(self, outcome: FileOutcome) -> Iterator[tuple[str, FileOutcome]]:
        yield outcome.source.table, outcome


@beam.typehints.with_output_types(Chunk, columns=tuple[str, dict[str, SeenColumn]])
class _PlanTableFn(beam.DoFn):
    COLUMNS = "columns"

    def __init__(self, output: str, load_id: str, chunk_bytes: int) -> None:
        self._output = output
        self._load_id = load_id
        self._chunk_bytes = chunk_bytes
        self._chunks = Metrics.counter("PlanChunks", "chunks")
        self._chunk_sizes = Metrics.distribution("PlanChunks", "chunk_bytes")

    def process(self, element: tuple[str, Iterable[FileOutcome]]) -> Iterator[Chunk]:
        table, grouped = element
        outcomes = list(grouped)
        chunks = pack_chunks(table, (span for outcome in outcomes for span in outcome.spans), self._chunk_bytes)
        write_table_plan(self._output, self._load_id, table, outcomes, chunks)
        BOARD.plan_table(self._load_id, table, sum(chunk.bytes for chunk in chunks), len(chunks))
        columns = merge_evidence(columns_of(o.inspected) for o in outcomes if o.inspected is not None)
        yield beam.pvalue.TaggedOutput(self.COLUMNS, (table, columns))
        for chunk in chunks:
            self._chunks.inc()
            self._chunk_sizes.update(chunk.bytes)
            yield chunk
