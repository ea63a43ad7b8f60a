"""A local graph that timed flushing corrupts within seconds, run on DirectRunner as its place prepares it.

`python three_shuffles.py RUNS` prints "exact" for each run, and fails at the first one that is not. It is a process of
its own because a corrupted stream can claim any length: the address space is bounded, so that a regression fails
instead of eating the machine's memory.
"""

import dataclasses
import resource
import sys
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.testing.util import assert_that, equal_to

from runners.direct import DIRECT

ITEMS = 5_000
ADDRESS_SPACE_BYTES = 6 << 30


@dataclasses.dataclass(frozen=True)
class Item:
    number: int
    name: str


def item_of(number: int) -> Item:
    return Item(number, f"item-{number}" * 3)


def keyed(item: Item) -> tuple[int, Item]:
    return item.number % 97, item


def ungrouped(group: tuple[int, Iterable[Item]]) -> Iterator[Item]:
    yield from group[1]


def number_of(item: Item) -> int:
    assert item == item_of(item.number)
    return item.number


def run() -> None:
    options = PipelineOptions(DIRECT.options(["--direct_num_workers=2"], cores=2))
    with beam.Pipeline(options=options) as pipeline:
        items = pipeline | beam.Create(range(ITEMS), reshuffle=False) | beam.Map(item_of)
        for shuffle in range(3):
            groups = items | f"Key{shuffle}" >> beam.Map(keyed) | f"Group{shuffle}" >> beam.GroupByKey()
            items = groups | f"Ungroup{shuffle}" >> beam.FlatMap(ungrouped)
        assert_that(items | beam.Map(number_of), equal_to(range(ITEMS)))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    # Flushing every millisecond instead of every second makes short bundles as vulnerable as long ones.
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 1
    DIRECT.prepare()
    for _ in range(int(sys.argv[1])):
        run()
        sys.stdout.write("exact\n")


if __name__ == "__main__":
    main()
