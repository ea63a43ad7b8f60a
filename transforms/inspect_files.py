"""InspectFiles: SourceFile -> InspectedFile, or the file's reject.

What one file leaves in doubt about its header is decided among all files of its table.

Staged copies have deterministic names and appear whole or not at all, so a retry finds or makes the same bytes.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_etl.loads.table_plan import FileOutcome
from beam_etl.model import InspectedFile, Reject, SourceFile
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.inspection import inspect_file
from beam_etl.sources.table_headers import unite_headers


class InspectFilesOutputs(NamedTuple):
    """inspected: files that can be read. rejected: files that cannot, each with its reject."""

    inspected: beam.PCollection[InspectedFile]
    rejected: beam.PCollection[FileOutcome]


@dataclasses.dataclass
class InspectFiles(beam.PTransform):
    """Finds out how each file is written; unpacks what is packed.  SourceFile -> InspectFilesOutputs

    Attributes:
      declared: table -> what is declared of its files' dialect.
      staging_directory: where unpacked and transcoded copies go.
    """

    declared: Mapping[str, DeclaredDialect]
    staging_directory: str

    @beam.typehints.decorators.no_annotations  # Beam can read hints of several outputs or inputs nowhere but on DoFns
    def expand(self, files: beam.PCollection[SourceFile]) -> InspectFilesOutputs:
        outputs = files | "InspectFile" >> beam.ParDo(
            _InspectFileFn(dict(self.declared), self.staging_directory)
        ).with_outputs(_InspectFileFn.REJECTED, main="inspected")
        united = (
            outputs.inspected
            | "KeyFileByTable" >> beam.ParDo(_KeyFileByTableFn())
            | "GroupFilesByTable" >> beam.GroupByKey()
            | "UniteHeaders" >> beam.ParDo(_UniteHeadersFn())
        )
        return InspectFilesOutputs(united, outputs[_InspectFileFn.REJECTED])


@beam.typehints.with_output_types(InspectedFile, rejected=FileOutcome)
class _InspectFileFn(beam.DoFn):
    REJECTED = "rejected"

    def __init__(self, declared: dict[str, DeclaredDialect], staging_directory: str) -> None:
        self._declared = declared
        self._staging_directory = staging_directory
        self._inspected_files = Metrics.counter("InspectFiles", "inspected_files")
        self._rejected_files = Metrics.counter("InspectFiles", "rejected_files")

    def process(self, source: SourceFile) -> Iterator[InspectedFile]:
        declared = self._declared.get(source.table, DeclaredDialect())
        outcome = inspect_file(source, declared, self._staging_directory)
        if isinstance(outcome, Reject):
            self._rejected_files.inc()
            yield beam.pvalue.TaggedOutput(self.REJECTED, FileOutcome(source, reject=outcome))
        else:
            self._inspected_files.inc()
            yield outcome


class _KeyFileByTableFn(beam.DoFn):
    def process(self, file: InspectedFile) -> Iterator[tuple[str, InspectedFile]]:
        yield file.source.table, file


class _UniteHeadersFn(beam.DoFn):
    def process(self, element: tuple[str, Iterable[InspectedFile]]) -> Iterator[InspectedFile]:
        yield from unite_headers(element[1])
