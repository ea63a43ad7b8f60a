"""PublishTables: (TableBooks, TableSchema) -> PublishedTable; only what balances, PostgreSQL first, then Parquet.

At least once; exactly once in effect: PostgreSQL records the publish in its own transaction, Parquet rolls forward from
wherever an earlier attempt stopped.
"""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_etl.loads.books import TableBooks
from beam_etl.loads.publication import PublishedTable, publish_table
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass
class PublishTables(beam.PTransform):
    """Makes tables visible.  (TableBooks, TableSchema) -> PublishedTable"""

    sinks: SinkSettings

    def expand(self, books: beam.PCollection[tuple[TableBooks, TableSchema]]) -> beam.PCollection[PublishedTable]:
        return books | "SpreadBooks" >> beam.Reshuffle() | "PublishTable" >> beam.ParDo(_PublishTableFn(self.sinks))


class _PublishTableFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings) -> None:
        self._sinks = sinks
        self._published = Metrics.counter("PublishTables", "published_tables")
        self._refused = Metrics.counter("PublishTables", "unpublished_tables")

    def process(self, element: tuple[TableBooks, TableSchema]) -> Iterator[PublishedTable]:
        published = publish_table(*element, self._sinks)
        (self._published if published.published else self._refused).inc()
        yield published
