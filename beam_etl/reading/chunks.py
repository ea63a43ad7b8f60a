"""Chunks from spans: packing, and dealing out by bytes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from beam_etl.model import Chunk, Span


def pack_chunks(table: str, spans: Iterable[Span], chunk_bytes: int) -> list[Chunk]:
    """Spans of one table, in file order, packed up to chunk_bytes; a longer span is a chunk of its own.

    A pure function of its arguments whatever the order of spans, so a resumed load names its chunks the same.
    """
    chunks: list[Chunk] = []
    pending: list[Span] = []
    pending_bytes = 0
    for span in sorted(spans, key=lambda s: (s.file.source.file_id, s.start)):
        if pending and pending_bytes + span.bytes > chunk_bytes:
            chunks.append(_chunk(table, pending))
            pending, pending_bytes = [], 0
        pending.append(span)
        pending_bytes += span.bytes
    if pending:
        chunks.append(_chunk(table, pending))
    return chunks


def _chunk(table: str, spans: Sequence[Span]) -> Chunk:
    first = spans[0]
    return Chunk(table, f"{first.file.source.file_id:06d}-{first.start:014d}", tuple(spans))


def deal_by_bytes(chunks: Iterable[Chunk], lanes: int) -> list[list[Chunk]]:
    """`lanes` lists of nearly equal bytes: each chunk, largest first, goes to the lane with the fewest bytes so far.

    The longest-processing-time rule (Graham: "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 1969).
    """
    dealt: list[list[Chunk]] = [[] for _ in range(lanes)]
    loads = [(0, lane) for lane in range(lanes)]
    for chunk in sorted(chunks, key=lambda c: (-c.bytes, c.table, c.chunk_id)):
        load_bytes, lane = heapq.heappop(loads)
        dealt[lane].append(chunk)
        heapq.heappush(loads, (load_bytes + chunk.bytes, lane))
    return dealt
