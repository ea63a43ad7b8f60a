"""A stray quote costs its own record, not its neighbours; what may be one record stays one reject."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.reading.automaton import MALFORMED, index_records
from beam_etl.reading.field_index import FLAG_BITS
from beam_etl.reading.resync import read_records

LIMIT = 1 << 20


def read(text: bytes, n_fields: int, dialect: Dialect | None = None, limit: int = LIMIT):
    data = np.frombuffer(text, dtype=np.uint8)
    records = read_records(data, dialect or Dialect(), n_fields, limit)
    starts, ends = records.record_extents()
    good = [text[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
    broken = [text[s:e] for s, e in zip(records.broken_starts.tolist(), records.broken_ends.tolist(), strict=True)]
    return good, broken, records


def test_an_unclosed_quote_costs_its_own_record_only():
    good, broken, records = read(b'1,a\n2,"b\n3,c\n4,d\n5,"e, e"\n6,f\n', 2)
    assert good == [b"1,a", b"3,c", b"4,d", b'5,"e, e"', b"6,f"]
    assert broken == [b'2,"b']
    assert records.broken_ordinals.tolist() == [1]
    assert records.ordinals().tolist() == [0, 2, 3, 4, 5]
    assert records.n_records == 6


def test_an_unclosed_quote_without_any_other_quote_behind_it():
    good, broken, _ = read(b'1,a\n2,"b\n' + b"3,c\n" * 1000, 2)
    assert (len(good), broken) == (1001, [b'2,"b'])


def test_the_record_that_puts_the_quoting_in_step_again_may_span_lines():
    good, broken, _ = read(b'1,"a\n2,b\n3,"c\nc"\n4,d\n', 2)
    assert (good, broken) == ([b"2,b", b'3,"c\nc"', b"4,d"], [b'1,"a'])


def test_two_stray_quotes_cost_two_records():
    text = b'0,"x\n' + b"1,a\n" * 50 + b'2,"y\n' + b"3,b\n" * 50 + b'4,"z"\n'
    good, broken, _ = read(text, 2)
    assert (len(good), broken) == (101, [b'0,"x', b'2,"y'])


def test_crlf_is_no_part_of_the_rejected_line():
    good, broken, _ = read(b'1,"a\r\n2,b\r\n3,"c"\r\n', 2)
    assert (good, broken) == ([b"2,b", b'3,"c"'], [b'1,"a'])


@pytest.mark.parametrize(
    "text",
    [
        b'1,"A "Q" B"\n',  # one line
        b'1,"RUA "QUEBRADA\nresto da rua"\n',  # the second line has one field
        b'1,"note "x" y\nand, more"\n',  # the second line has two fields, but a quote in an unquoted one
        b'1,"note "x" y\n2,"y"z"\n',  # the second line is malformed itself
        b'1,"open',  # nothing behind it
        b'1,"a text, cut off\nby the end, of the file',  # two fields in the second line, but nothing closes the quote
    ],
)
def test_what_may_be_one_record_is_one_reject_with_all_its_bytes(text):
    good, broken, _ = read(text, 2)
    assert (good, broken) == ([], [text.removesuffix(b"\n")])


def test_a_record_that_is_too_long_because_of_a_stray_quote_frees_its_neighbours():
    good, broken, records = read(b'1,"a\n' + b"2,bbbbbbbb\n" * 100, 2, limit=64)
    assert (len(good), broken) == (100, [b'1,"a'])
    assert records.broken_codes.tolist() == [MALFORMED]


def test_many_stray_quotes_in_one_record_are_given_up_after_a_bounded_number_of_readings():
    good, broken, _ = read(b'1,"a\n2,b\n' * 400, 2)
    assert len(good) + len(broken) >= 1
    assert sum(map(len, good)) + sum(map(len, broken)) <= 400 * 9


pieces = st.lists(
    st.sampled_from([b"1,a\n", b'2,"b"\n', b'3,"c\nc"\n', b'4,"d\n', b'5,e"e\n', b'"f"g,6\n', b"\n", b"7\n", b'"']),
    max_size=25,
).map(b"".join)


@settings(max_examples=600, deadline=None)
@given(pieces, st.integers(1, 3))
@example(b'1,"a\n2,"b\n3,c\n', 2)
def test_reading_again_only_ever_divides_malformed_records(text, n_fields):
    data = np.frombuffer(text, dtype=np.uint8)
    plain = index_records(data, Dialect(), n_fields, LIMIT)
    records = read_records(data, Dialect(), n_fields, LIMIT)
    before = {int(s) for s in plain.index.record_starts}
    after = {int(s) for s in records.index.record_starts}
    assert before <= after
    malformed = [
        (int(s), int(e))
        for s, e, c in zip(plain.broken_starts, plain.broken_ends, plain.broken_codes, strict=True)
        if c == MALFORMED
    ]
    assert all(any(s < start <= e for s, e in malformed) for start in after - before)
    extents = sorted(
        [*zip(*(a.tolist() for a in records.record_extents()), strict=True)]
        + [*zip(records.broken_starts.tolist(), records.broken_ends.tolist(), strict=True)]
    )
    assert all(a[1] < b[0] for a, b in zip(extents, extents[1:], strict=False))
    gaps = b"".join(text[a[1] : b[0]] for a, b in zip([(0, 0), *extents], [*extents, (len(text), 0)], strict=True))
    assert set(gaps) <= set(b"\r\n")
    assert sorted([*records.ordinals().tolist(), *records.broken_ordinals.tolist()]) == list(range(records.n_records))
    ends = records.index.field_ends >> FLAG_BITS
    assert bool((np.diff(ends.astype(np.int64), axis=1) > 0).all())


def test_in_a_file_of_one_column_the_rest_may_well_be_text_of_the_open_field():
    good, broken, _ = read(b'"first"\n"second, cut off\nits third line\nits fourth', 1)
    assert (good, broken) == ([b'"first"'], [b'"second, cut off\nits third line\nits fourth'])
