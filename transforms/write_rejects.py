"""WriteRejects: (TableBooks, TableSchema) -> the same, once the rejects of the table are written out.

At least once; exactly once in effect, because each chunk's file of rejects replaces itself. Rejects are written whether
or not the table is published: whoever must mend the files needs them most when it is not.
"""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_etl.loads.books import TableBooks
from beam_etl.loads.reject_files import write_table_rejects
from beam_etl.parquet.store import ParquetStore
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass
class WriteRejects(beam.PTransform):
    """Numbers rejects from the start of their files.  (TableBooks, TableSchema) -> (TableBooks, TableSchema)"""

    sinks: SinkSettings

    def expand(
        self, books: beam.PCollection[tuple[TableBooks, TableSchema]]
    ) -> beam.PCollection[tuple[TableBooks, TableSchema]]:
        return (
            books
            | "SpreadTables" >> beam.Reshuffle()
            | "WriteTableRejects" >> beam.ParDo(_WriteTableRejectsFn(self.sinks))
        )


class _WriteTableRejectsFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings) -> None:
        self._sinks = sinks
        self._parquet: ParquetStore | None = None
        self._rejects = Metrics.counter("WriteRejects", "rejects")

    def setup(self) -> None:
        self._parquet = self._sinks.open_parquet()

    def process(self, element: tuple[TableBooks, TableSchema]) -> Iterator[tuple[TableBooks, TableSchema]]:
        books, _ = element
        records = self._parquet.read_records(books.table, books.schema_hash)
        written = write_table_rejects(self._sinks.output, self._sinks.load_id, books.table, records)
        self._rejects.inc(written)
        yield element
