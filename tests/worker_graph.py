"""A small graph with two shuffles whose answer shows where it was computed: for real runners with workers of their own."""

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

GROUPS = 7


def by_group(number: int) -> tuple[int, int]:
    return number % GROUPS, number


class WriteGroup(beam.DoFn):
    """(group, its numbers) -> the file `group-<group>` with the process id and the numbers: the same whoever repeats it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, group: tuple[int, Iterable[int]]) -> Iterator[str]:
        target = Path(self._folder) / f"group-{group[0]}"
        attempt = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        attempt.write_text(" ".join(map(str, [os.getpid(), *sorted(group[1])])))
        attempt.replace(target)
        yield str(target)


def run_graph(args: list[str], numbers: int, folder: Path) -> None:
    """Runs Create -> Reshuffle -> GroupByKey -> files in the folder, which the workers share; returns when it is done."""
    with beam.Pipeline(options=PipelineOptions(args)) as pipeline:
        grouped = pipeline | beam.Create(range(numbers)) | beam.Reshuffle() | beam.Map(by_group) | beam.GroupByKey()
        grouped | "WriteGroup" >> beam.ParDo(WriteGroup(str(folder)))


def written(folder: Path) -> tuple[set[int], list[list[int]]]:
    """(the process ids that wrote, the groups in order)."""
    words = [path.read_text().split() for path in sorted(folder.glob("group-*"))]
    return {int(pid) for pid, *_ in words}, [[int(number) for number in numbers] for _, *numbers in words]
