"""WriteReport: PublishedTable -> report.json of the load. A retry replaces the report by the same one."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_etl.loads.publication import PublishedTable
from beam_etl.loads.report import write_report
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass
class WriteReport(beam.PTransform):
    """Writes the report once every table has come to its end.  PublishedTable -> path of the report

    Attributes:
      sinks: where the load landed.
      published_tables: tables that an earlier run of this load has published.
      started: when this run of the load started, seconds since the epoch.
    """

    sinks: SinkSettings
    published_tables: frozenset[str]
    started: float

    def expand(self, tables: beam.PCollection[PublishedTable]) -> beam.PCollection[str]:
        return (
            tables.pipeline
            | "NameReport" >> beam.Create([self.sinks.load_id])
            | "WriteReportFile"
            >> beam.ParDo(
                _WriteReportFileFn(self.sinks, self.published_tables, self.started), beam.pvalue.AsIter(tables)
            )
        )


class _WriteReportFileFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings, published_tables: frozenset[str], started: float) -> None:
        self._sinks = sinks
        self._published_tables = published_tables
        self._started = started

    def process(self, load_id: str, tables: Iterable[PublishedTable]) -> Iterator[str]:
        yield write_report(self._sinks, list(tables), self._started, self._published_tables)
