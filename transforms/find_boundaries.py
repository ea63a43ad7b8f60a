"""FindBoundaries: InspectedFile -> FileOutcome with exact record-aligned spans, looked for in parallel inside each file.

Pure functions of the file's bytes: a retry finds the same spans.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_etl.loads.table_plan import FileOutcome
from beam_etl.model import InspectedFile
from beam_etl.reading.cuts import Range, RangeSummary, compose_spans, cut_ranges, summarise_range


@dataclasses.dataclass
class FindBoundaries(beam.PTransform):
    """Cuts files at record starts near every multiple of chunk_bytes.  InspectedFile -> FileOutcome"""

    chunk_bytes: int

    def expand(self, files: beam.PCollection[InspectedFile]) -> beam.PCollection[FileOutcome]:
        cut = files | "CutFile" >> beam.ParDo(_CutFileFn(self.chunk_bytes)).with_outputs(
            _CutFileFn.RANGES, main="whole"
        )
        composed = (
            cut[_CutFileFn.RANGES]
            | "SpreadRanges" >> beam.Reshuffle()
            | "SummariseRange" >> beam.ParDo(_SummariseRangeFn())
            | "GroupByFile" >> beam.GroupByKey()
            | "ComposeSpans" >> beam.ParDo(_ComposeSpansFn())
        )
        return (cut.whole, composed) | "JoinFiles" >> beam.Flatten()


@beam.typehints.with_output_types(FileOutcome, ranges=Range)
class _CutFileFn(beam.DoFn):
    """Files of one range need no look inside; the others go on as ranges."""

    RANGES = "ranges"

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes

    def process(self, file: InspectedFile) -> Iterator[FileOutcome]:
        ranges = cut_ranges(file, self._chunk_bytes)
        if len(ranges) <= 1:
            yield FileOutcome(file.source, file, compose_spans(file, []))
            return
        for range_ in ranges:
            yield beam.pvalue.TaggedOutput(self.RANGES, range_)


class _SummariseRangeFn(beam.DoFn):
    def process(self, range_: Range) -> Iterator[tuple[int, RangeSummary]]:
        yield range_.file.source.file_id, summarise_range(range_)


class _ComposeSpansFn(beam.DoFn):
    def process(self, element: tuple[int, Iterable[RangeSummary]]) -> Iterator[FileOutcome]:
        summaries = list(element[1])
        file = summaries[0].range.file
        yield FileOutcome(file.source, file, compose_spans(file, summaries))
