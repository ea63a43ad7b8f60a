from hypothesis import given
from hypothesis import strategies as st

from beam_etl.model import Chunk, Dialect, InspectedFile, SourceFile, Span
from beam_etl.reading.chunks import deal_by_bytes, pack_chunks


def span(file_id, start, end):
    source = SourceFile(file_id, f"f{file_id}", "", "t", end, "v")
    return Span(InspectedFile(source, f"f{file_id}", end, "v", Dialect(), 0, ("a",)), start, end)


def sized_chunk(number, size):
    return Chunk("t", f"{number:06d}", (span(number, 0, size),))


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 50)), max_size=40).map(
    lambda items: [span(file_id, 0, size) for file_id, size in dict(items).items()]
)


@given(spans, st.randoms())
def test_packing_keeps_every_span_once_in_file_order_whatever_their_order(items, random):
    chunks = pack_chunks("t", items, 60)
    shuffled = list(items)
    random.shuffle(shuffled)
    assert pack_chunks("t", shuffled, 60) == chunks
    assert [s for chunk in chunks for s in chunk.spans] == sorted(items, key=lambda s: s.file.source.file_id)
    assert all(chunk.bytes <= 60 or len(chunk.spans) == 1 for chunk in chunks)
    ids = [chunk.chunk_id for chunk in chunks]
    assert ids == sorted(set(ids))


def test_no_span_no_chunk():
    assert pack_chunks("t", [], 60) == []


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 8))
def test_dealing_keeps_every_chunk_once_and_balances_bytes(sizes, lanes):
    chunks = [sized_chunk(i, size) for i, size in enumerate(sizes)]
    dealt = deal_by_bytes(chunks, lanes)
    assert sorted(c.chunk_id for lane in dealt for c in lane) == [c.chunk_id for c in chunks]
    loads = [sum(c.bytes for c in lane) for lane in dealt]
    # Graham 1969: the longest lane exceeds the mean by less than the largest chunk.
    assert max(loads) <= sum(loads) / lanes + max(sizes, default=0)


def test_mixed_sizes_end_within_a_tenth_of_each_other():
    sizes = [1000, *[300] * 3, *[50] * 20, *[7] * 100]
    loads = [sum(c.bytes for c in lane) for lane in deal_by_bytes([sized_chunk(i, s) for i, s in enumerate(sizes)], 2)]
    assert max(loads) <= 1.1 * min(loads)
