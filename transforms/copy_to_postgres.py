"""CopyToPostgres: (ConvertedChunk, pa.Table) -> ChunkRecord.

At least once; exactly once in effect, because the ledger row is inserted first in the transaction of the COPY: a second
attempt finds the row, or waits for the first one's end.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_etl.model import ChunkRecord, ConvertedChunk
from beam_etl.postgres.store import PostgresStore
from beam_etl.progress.board import BOARD
from beam_etl.sinks import SinkSettings

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class CopyToPostgres(beam.PTransform):
    """Lands one chunk by one COPY in one transaction.  (ConvertedChunk, pa.Table) -> ChunkRecord"""

    sinks: SinkSettings

    def expand(self, tables: beam.PCollection[tuple[ConvertedChunk, pa.Table]]) -> beam.PCollection[ChunkRecord]:
        return tables | "CopyChunk" >> beam.ParDo(_CopyChunkFn(self.sinks))


class _CopyChunkFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings) -> None:
        self._sinks = sinks
        self._store: PostgresStore | None = None
        self._rows = Metrics.counter("CopyToPostgres", "rows")
        self._refused = Metrics.counter("CopyToPostgres", "refused_rows")

    def setup(self) -> None:
        self._store = self._sinks.open_postgres()

    def process(self, element: tuple[ConvertedChunk, pa.Table]) -> Iterator[ChunkRecord]:
        started = time.monotonic()
        committed = self._store.commit_chunk(*element)
        self._rows.inc(committed.record.rows)
        self._refused.inc(len(committed.row_errors))
        logger.info("committed", extra=committed.record.log_fields("CopyToPostgres", time.monotonic() - started))
        BOARD.land(committed.record)
        yield committed.record

    def teardown(self) -> None:
        if self._store is not None:
            self._store.close()
