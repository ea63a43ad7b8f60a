"""DealChunks: Chunk -> Chunk, so that the workers get equal bytes.

A runner that deals work out while it runs needs only a Reshuffle. One that deals it out beforehand (the local one) gets
one key a thread, and each key chunks of nearly equal bytes in all.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_etl.model import Chunk
from beam_etl.reading.chunks import deal_by_bytes


@dataclasses.dataclass
class DealChunks(beam.PTransform):
    """Spreads chunks over the workers.  Chunk -> Chunk

    Attributes:
      static_lanes: number of threads among which the runner deals elements out before it starts, 0 where it does not.
    """

    static_lanes: int

    def expand(self, chunks: beam.PCollection[Chunk]) -> beam.PCollection[Chunk]:
        if not self.static_lanes:
            return chunks | "SpreadChunks" >> beam.Reshuffle()
        return (
            chunks
            | "KeyTogether" >> beam.WithKeys(0)
            | "GatherChunks" >> beam.GroupByKey()
            | "DealByBytes" >> beam.ParDo(_DealByBytesFn(self.static_lanes))
            | "GroupByLane" >> beam.GroupByKey()
            | "EmitLane" >> beam.ParDo(_EmitLaneFn())
        )


class _DealByBytesFn(beam.DoFn):
    def __init__(self, lanes: int) -> None:
        self._lanes = lanes

    def process(self, element: tuple[int, Iterable[Chunk]]) -> Iterator[tuple[int, Chunk]]:
        for lane, chunks in enumerate(deal_by_bytes(element[1], self._lanes)):
            for chunk in chunks:
                yield lane, chunk


class _EmitLaneFn(beam.DoFn):
    def process(self, element: tuple[int, Iterable[Chunk]]) -> Iterator[Chunk]:
        yield from element[1]
