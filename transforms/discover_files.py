"""DiscoverFiles: plan.json -> SourceFile. Reads only the frozen plan, so a retry emits the same files."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

from beam_etl.loads.plan import read_plan
from beam_etl.model import SourceFile


@dataclasses.dataclass
class DiscoverFiles(beam.PTransform):
    """The planned files of the tables that this load has not published yet.  PBegin -> SourceFile"""

    output: str
    load_id: str
    published_tables: frozenset[str] = frozenset()

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[SourceFile]:
        return (
            begin
            | "NameLoad" >> beam.Create([self.load_id])
            | "ReadPlan" >> beam.ParDo(_ReadPlanFn(self.output, self.published_tables))
            | "SpreadFiles" >> beam.Reshuffle()
        )


class _ReadPlanFn(beam.DoFn):
    def __init__(self, output: str, published_tables: frozenset[str]) -> None:
        self._output = output
        self._published_tables = published_tables

    def process(self, load_id: str) -> Iterator[SourceFile]:
        for file in read_plan(self._output, load_id).files:
            if file.table not in self._published_tables:
                yield file
