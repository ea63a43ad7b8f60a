"""Winners of an upsert against the simplest model of one: a dictionary."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.parquet import merge
from beam_etl.parquet.merge import KeyFiles, merge_rows

KEYS = st.tuples(st.integers(-3, 3), st.sampled_from(["", "a", "b", "ä"]))
FILES = st.lists(st.lists(st.tuples(KEYS, st.booleans()), max_size=8), max_size=5)


def files(parts, staged):
    def read(number):
        part = parts[number]
        columns = {
            "id": pa.array([key[0] for key, _ in part], pa.int64()),
            "kind": pa.array([key[1] for key, _ in part], pa.string()),
        }
        return pa.table({**columns, "deleted": pa.array([d for _, d in part], pa.bool_())} if staged else columns)

    return KeyFiles([len(part) for part in parts], read)


@pytest.mark.parametrize("bucket_rows", [1 << 21, 3])
@given(records=FILES, before=st.sets(KEYS), cuts=st.integers(1, 4))
def test_winners_are_those_of_a_dictionary(bucket_rows, records, before, cuts):
    held = [[(key, False) for key in list(before)[start::cuts]] for start in range(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "BUCKET_ROWS", bucket_rows)
        made = merge_rows("t", ("id", "kind"), files(records, True), files(held, False))
    table = {key: "old" for key in before}
    last = {}
    for number, part in enumerate(records):
        for row, (key, deleted) in enumerate(part):
            last[key] = (number, row, deleted)
    counts = made.counts
    assert counts.removed == sum(deleted and key in table for key, (_, _, deleted) in last.items())
    assert counts.updated == sum(not deleted and key in table for key, (_, _, deleted) in last.items())
    for key, (number, row, deleted) in last.items():
        table.pop(key, None)
        if not deleted:
            table[key] = (number, row)
    stay = {(n, int(r)) for n, lost in enumerate(made.lost) for r in np.flatnonzero(~lost)}
    assert stay == {place for place in table.values() if place != "old"}
    kept = [held[n][r][0] for n, gone in enumerate(made.gone) for r in np.flatnonzero(~gone)]
    assert sorted(kept) == sorted(key for key, place in table.items() if place == "old")
    assert counts.staged == sum(map(len, records))
    assert (counts.rows, counts.deleted) == (len(stay), sum(d for *_, d in last.values()))
    assert counts.inserted + counts.updated == counts.rows


def test_a_table_with_two_rows_of_a_touched_key_is_refused():
    held = files([[((1, "a"), False)], [((1, "a"), False)]], False)
    with pytest.raises(ValueError, match="several rows with the same key"):
        merge_rows("t", ("id", "kind"), files([[((1, "a"), False)]], True), held)
    untouched = merge_rows("t", ("id", "kind"), files([[((2, "a"), False)]], True), held)
    assert untouched.counts.inserted == 1


@pytest.mark.parametrize("name", ["place", "deleted", "base_place"])
def test_a_key_may_have_any_name(name):
    staged, held = pa.table([pa.array([1, 2, 1]), pa.array([False] * 3)], [name, "deleted"]), pa.table({name: [2, 3]})
    made = merge_rows("t", (name,), KeyFiles([3], lambda _: staged), KeyFiles([2], lambda _: held))
    assert [part.tolist() for part in (*made.lost, *made.gone)] == [[True, False, False], [True, False]]
    assert (made.counts.inserted, made.counts.updated, made.counts.superseded) == (1, 1, 1)
