"""WriteParquet: (ConvertedChunk, pa.Table) -> ChunkRecord.

At least once; exactly once in effect, because the file's path is unique to the attempt and only the one that the
create-if-absent commit record names is ever published.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_etl.model import ChunkRecord, ConvertedChunk
from beam_etl.parquet.store import ParquetStore
from beam_etl.progress.board import BOARD
from beam_etl.sinks import SinkSettings

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class WriteParquet(beam.PTransform):
    """Stages one Parquet file a chunk and commits it.  (ConvertedChunk, pa.Table) -> ChunkRecord"""

    sinks: SinkSettings

    def expand(self, tables: beam.PCollection[tuple[ConvertedChunk, pa.Table]]) -> beam.PCollection[ChunkRecord]:
        return tables | "CommitFile" >> beam.ParDo(_CommitFileFn(self.sinks))


class _CommitFileFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings) -> None:
        self._sinks = sinks
        self._store: ParquetStore | None = None
        self._rows = Metrics.counter("WriteParquet", "rows")
        self._bytes = Metrics.counter("WriteParquet", "written_bytes")

    def setup(self) -> None:
        self._store = self._sinks.open_parquet()

    def process(self, element: tuple[ConvertedChunk, pa.Table]) -> Iterator[ChunkRecord]:
        converted, table = element
        chunk = converted.chunk
        record = self._store.read_record(chunk.table, converted.schema_hash, chunk.chunk_id)
        is_new = record is None
        if is_new:
            started = time.monotonic()
            record = self._store.commit_chunk(converted, table)
            self._rows.inc(record.rows)
            self._bytes.inc(record.file_bytes)
            logger.info("committed", extra=record.log_fields("WriteParquet", time.monotonic() - started))
        BOARD.land(record, is_new)
        yield record
