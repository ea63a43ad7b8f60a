"""WriteReport: PublishedTable -> report.json of the load. A retry replaces the report by the same one."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_etl.publication import PublishedTable
from beam_etl.report import write_report


@dataclasses.dataclass
class WriteReport(beam.PTransform):
    """Writes the report once every table has come to its end.  PublishedTable -> path of the report

    Attributes:
      output, load_id: the load.
      started: when this run of the load started, seconds since the epoch.
    """

    output: str
    load_id: str
    started: float

    def expand(self, tables: beam.PCollection[PublishedTable]) -> beam.PCollection[str]:
        return (
            tables.pipeline
            | "NameReport" >> beam.Create([self.load_id])
            | "WriteReportFile" >> beam.ParDo(_WriteReportFileFn(self.output, self.started), beam.pvalue.AsIter(tables))
        )


class _WriteReportFileFn(beam.DoFn):
    def __init__(self, output: str, started: float) -> None:
        self._output = output
        self._started = started

    def process(self, load_id: str, tables: Iterable[PublishedTable]) -> Iterator[str]:
        yield write_report(self._output, load_id, list(tables), self._started)
