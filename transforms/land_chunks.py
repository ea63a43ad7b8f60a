"""LandChunks: Chunk -> ChunkRecord, one attempt at landing chunks in every sink with given schemas.

Convert, write and copy are fused, so Arrow tables never leave a worker's memory. At least once; exactly once in effect,
as each sink is.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import apache_beam as beam

from beam_etl.model import Chunk, ChunkRecord
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings
from transforms.convert_chunks import ConvertChunks
from transforms.copy_to_postgres import CopyToPostgres
from transforms.deal_chunks import DealChunks
from transforms.write_parquet import WriteParquet


class LandChunksOutputs(NamedTuple):
    """records: what the sinks committed. conflicts: (table, inferred columns in which a value does not fit)."""

    records: beam.PCollection[ChunkRecord]
    conflicts: beam.PCollection[tuple[str, frozenset[str]]]


@dataclasses.dataclass
class LandChunks(beam.PTransform):
    """Lands the chunks of the tables that have a schema.  (Chunk, schemas as a side input) -> LandChunksOutputs

    Attributes:
      schemas: (table, TableSchema).
      sinks: where the load lands.
      max_record_bytes: longest record in bytes.
      budget_mb: MiB that conversion may reserve in a worker process, None to plan it on the worker.
      static_lanes: as DealChunks takes it.
    """

    schemas: beam.PCollection[tuple[str, TableSchema]]
    sinks: SinkSettings
    max_record_bytes: int
    budget_mb: int | None
    static_lanes: int

    @beam.typehints.decorators.no_annotations  # Beam can read hints of several outputs or inputs nowhere but on DoFns
    def expand(self, chunks: beam.PCollection[Chunk]) -> LandChunksOutputs:
        converted, conflicts = (
            chunks
            | "KeepTables" >> beam.ParDo(_KeepTablesFn(), beam.pvalue.AsDict(self.schemas))
            | "DealChunks" >> DealChunks(self.static_lanes)
            | "ConvertChunks" >> ConvertChunks(self.schemas, self.sinks, self.max_record_bytes, self.budget_mb)
        )
        records = [converted | "WriteParquet" >> WriteParquet(self.sinks)]
        if self.sinks.postgres is not None:
            records.append(converted | "CopyToPostgres" >> CopyToPostgres(self.sinks))
        return LandChunksOutputs(records | "JoinSinks" >> beam.Flatten(), conflicts)


class _KeepTablesFn(beam.DoFn):
    """In the second attempt only the tables in conflict have a schema."""

    def process(self, chunk: Chunk, schemas: Mapping[str, TableSchema]) -> Iterator[Chunk]:
        if chunk.table in schemas:
            yield chunk
