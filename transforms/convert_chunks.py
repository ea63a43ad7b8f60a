"""ConvertChunks: Chunk -> (ConvertedChunk, pa.Table), or the columns in conflict with the schema.

Pure but for the staged rejects, whose path is unique to the attempt; the commit record names the one that counts. A
chunk that every sink has committed before is not converted again, which is how a load resumes.
"""

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

import transforms.arrow_coder  # noqa: F401  registers the coder of pa.Table
from beam_etl.loads.rejects import StagedRejects
from beam_etl.memory.arrow_pool import use_frugal_pool
from beam_etl.model import Chunk, ChunkRecord, ConvertedChunk
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from beam_etl.progress.board import BOARD
from beam_etl.reading.csv_arrow import convert_chunk
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings
from transforms.guard_memory import MemoryGuard

# Bytes held for each byte of a chunk while it is converted and committed: the text, its field index (up to half), the
# Arrow table, and the compressed Parquet or encoded COPY block; measured 3.1 on lineitem, more on narrow columns.
EXPANSION = 4


class ConvertChunksOutputs(NamedTuple):
    """converted: for the sinks. conflicts: (table, inferred columns in which a value does not fit)."""

    converted: beam.PCollection[tuple[ConvertedChunk, pa.Table]]
    conflicts: beam.PCollection[tuple[str, frozenset[str]]]


@dataclasses.dataclass
class ConvertChunks(beam.PTransform):
    """Reads, types and checks chunks.  (Chunk, schemas as a side input) -> ConvertChunksOutputs

    Attributes:
      schemas: (table, TableSchema), of every table among the chunks.
      sinks: where the load lands.
      max_record_bytes: longest record in bytes.
      budget_mb: MiB that conversion may reserve in a worker process, None to plan it on the worker.
    """

    schemas: beam.PCollection[tuple[str, TableSchema]]
    sinks: SinkSettings
    max_record_bytes: int
    budget_mb: int | None

    @beam.typehints.decorators.no_annotations  # Beam can read hints of several outputs or inputs nowhere but on DoFns
    def expand(self, chunks: beam.PCollection[Chunk]) -> ConvertChunksOutputs:
        convert = MemoryGuard(
            _ConvertChunkFn(self.sinks, self.max_record_bytes), _estimated_bytes, self.budget_mb or "auto"
        )
        outputs = chunks | "ConvertChunk" >> beam.ParDo(convert, beam.pvalue.AsDict(self.schemas)).with_outputs(
            _ConvertChunkFn.CONFLICTS, main="converted"
        )
        return ConvertChunksOutputs(outputs.converted, outputs[_ConvertChunkFn.CONFLICTS])


def _estimated_bytes(chunk: Chunk) -> int:
    return EXPANSION * chunk.bytes


@beam.typehints.with_output_types(tuple[ConvertedChunk, pa.Table], conflicts=tuple[str, frozenset[str]])
class _ConvertChunkFn(beam.DoFn):
    CONFLICTS = "conflicts"

    def __init__(self, sinks: SinkSettings, max_record_bytes: int) -> None:
        self._sinks = sinks
        self._max_record_bytes = max_record_bytes
        self._parquet: ParquetStore | None = None
        self._postgres: PostgresStore | None = None
        self._in_postgres: dict[tuple[str, str], set[str]] = {}
        self._records = Metrics.counter("ConvertChunks", "records")
        self._rejects = Metrics.counter("ConvertChunks", "rejected_records")
        self._bytes = Metrics.counter("ConvertChunks", "read_bytes")
        self._skipped = Metrics.counter("ConvertChunks", "already_committed_chunks")
        self._conflicts = Metrics.counter("ConvertChunks", "chunks_in_conflict")

    def setup(self) -> None:
        use_frugal_pool()
        self._parquet = self._sinks.open_parquet()
        self._postgres = self._sinks.open_postgres()

    def process(self, chunk: Chunk, schemas: Mapping[str, TableSchema]) -> Iterator[tuple[ConvertedChunk, pa.Table]]:
        schema = schemas[chunk.table]
        committed = self._committed(chunk, schema.hash)
        if committed is not None:
            self._skipped.inc()
            for sink in self._sinks.names:
                BOARD.land(dataclasses.replace(committed, sink=sink), by_this_run=False)
            return
        BOARD.start_chunk(self._sinks.load_id, chunk.table)
        staging = self._sinks.rejects_directory(chunk.table)
        rejects = StagedRejects(f"{staging}/{chunk.chunk_id}-{uuid.uuid4().hex[:8]}.jsonl")
        reject_nul = self._sinks.postgres is not None
        conversion = convert_chunk(chunk, schema, self._max_record_bytes, reject_nul, rejects.add, self._sinks.load_id)
        self._bytes.inc(chunk.bytes)
        if conversion.conflicts:
            rejects.discard()
            self._conflicts.inc()
            yield beam.pvalue.TaggedOutput(self.CONFLICTS, (chunk.table, conversion.conflicts))
            return
        converted = ConvertedChunk(chunk, schema.hash, conversion.counts, rejects.close())
        self._records.inc(converted.records)
        self._rejects.inc(converted.rejects)
        yield converted, conversion.table

    def _committed(self, chunk: Chunk, schema_hash: str) -> ChunkRecord | None:
        """The record of a chunk that every sink has committed, or None."""
        record = self._parquet.read_record(chunk.table, schema_hash, chunk.chunk_id)
        if record is None or self._postgres is None:
            return record
        # Read once a table: what others commit later is merely converted again, and its commit then changes nothing.
        key = (chunk.table, schema_hash)
        if key not in self._in_postgres:
            self._in_postgres[key] = self._postgres.committed_chunks(*key)
        return record if chunk.chunk_id in self._in_postgres[key] else None

    def teardown(self) -> None:
        if self._postgres is not None:
            self._postgres.close()
