import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.reading.automaton import (
    CR_AFTER_QUOTE,
    CR_SEEN,
    FIELD_START,
    FIRST_PARTIAL,
    IN_COMMENT,
    IN_QUOTED,
    IN_UNQUOTED,
    QUOTE_IN_QUOTED,
    QUOTED_ESCAPE,
    RECORD_START,
    UNQUOTED_ESCAPE,
    Symbols,
    next_state,
)
from beam_etl.reading.boundaries import compose, first_record_start, n_states, next_record_start, state_map
from tests.reference_reader import record_starts

DIALECTS = [
    Dialect(quote=quote, escape=escape, line_end=line_end, comment=comment)
    for quote, escape, line_end, comment in itertools.product(
        ('"', ""), ("doubled", "backslash", "none"), ("lf", "cr", "any"), ("", "#")
    )
]
SEPARATED = [
    Dialect(delimiter=delimiter, quote=quote, escape=escape, line_end=line_end, comment="#")
    for delimiter, quote, escape, line_end in itertools.product(
        ("||", "|~|", ", ", "§"), ('"', ""), ("doubled", "backslash"), ("lf", "any")
    )
]
NASTY = st.lists(
    st.sampled_from(
        [*(bytes([byte]) for byte in b'"",,\n\n\r\\#ab'), b"|", b"~", b"||", b"|~|", b", ", "§".encode(), b"\xc2"]
    ),
    max_size=40,
).map(b"".join)
# Stretches long enough for states to be carried over them without a look at each byte.
LONG = st.lists(
    st.one_of(NASTY, st.sampled_from([b"abc,def\n" * 200, b"a\r\n#b\r" * 300, b"x" * 1500, b'"a""b",\\\r\n' * 150])),
    max_size=4,
).map(b"".join)


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def ways_in(dialect: Dialect) -> dict[int, bytes]:
    """For each state that the dialect can be in, a text that leads there from a record start."""
    separator = dialect.separator
    ways = {RECORD_START: b"", FIELD_START: b"a" + separator, IN_UNQUOTED: b"a"}
    for seen in range(1, len(separator)):
        ways[FIRST_PARTIAL + seen - 1] = b"a" + separator[:seen]
        if dialect.quote:
            ways[FIRST_PARTIAL + len(separator) + seen - 2] = b'"a"' + separator[:seen]
    if dialect.quote:
        ways |= {IN_QUOTED: b'"', QUOTE_IN_QUOTED: b'"a"'}
    if dialect.quote and dialect.line_end == "lf":
        ways[CR_AFTER_QUOTE] = b'"a"\r'
    if dialect.line_end == "any":
        ways[CR_SEEN] = b"a\r"
    if dialect.escape == "backslash":
        ways[UNQUOTED_ESCAPE] = b"\\"
    if dialect.quote and dialect.escape == "backslash":
        ways[QUOTED_ESCAPE] = b'"\\'
    if dialect.comment:
        ways[IN_COMMENT] = b"#"
    return ways


def true_start(prefix: bytes, window: bytes, dialect: Dialect, at: int) -> int | None:
    """First record start at or after `at` in the window that no byte behind the window can undo."""
    starts = record_starts(prefix + window + b"\n", dialect)  # a LF after a last CR would move the start
    within = [start - len(prefix) for start in starts if start <= len(prefix + window)]
    return min((start for start in within if start >= at), default=None)


@pytest.mark.parametrize(
    ("window", "dialect", "at", "start"),
    [
        (b"a,b\nc", Dialect(quote=""), 1, 4),
        (b"a,b\nc", Dialect(quote=""), 0, None),  # a record starts at 0 or not
        (b"a,b\nc\nd", Dialect(quote=""), 4, 4),
        (b"a,b\nc\nd", Dialect(quote=""), 5, 6),
        (b"a,b\n", Dialect(quote=""), 1, 4),
        (b"a,b", Dialect(quote=""), 1, None),
        (b"a,b\nc\n", Dialect(), 0, None),  # all of it may be quoted
        (b'a"b","c\n', Dialect(), 0, None),
        (b'x\ny","z"\nw', Dialect(), 3, 9),  # `"z"` can only be a field
        (b"a\r\nb", Dialect(quote="", line_end="any"), 1, 3),
        (b"a\r\nb", Dialect(quote="", line_end="any"), 2, 3),
        (b"a\rb", Dialect(quote="", line_end="any"), 1, 2),
        (b"a\r", Dialect(quote="", line_end="any"), 1, None),  # a LF may follow
        (b"a\r", Dialect(quote="", line_end="cr"), 1, 2),
        (b"\nb", Dialect(quote="", line_end="any"), 0, None),  # a record starts before the LF or not
        (b"a\n", Dialect(quote=""), 3, None),
    ],
)
def test_first_record_start(window: bytes, dialect: Dialect, at: int, start: int | None) -> None:
    assert first_record_start(as_array(window), dialect, at) == start


@settings(max_examples=2000, deadline=None)
@given(NASTY, st.sampled_from(DIALECTS + SEPARATED), st.integers(0, 45))
def test_first_record_start_answers_exactly_when_all_states_agree(window: bytes, dialect: Dialect, at: int) -> None:
    truths = {true_start(prefix, window, dialect, at) for prefix in ways_in(dialect).values()}
    assert first_record_start(as_array(window), dialect, at) == (truths.pop() if len(truths) == 1 else None)


@settings(max_examples=2000, deadline=None)
@given(NASTY, NASTY, NASTY, st.sampled_from(DIALECTS + SEPARATED), st.integers(0, 45))
def test_first_record_start_is_right_for_any_text_around(prefix, window, suffix, dialect, at) -> None:
    start = first_record_start(as_array(window), dialect, at)
    if start is not None:
        starts = record_starts(prefix + window + suffix, dialect)
        assert min(s for s in starts if s >= len(prefix) + at) == len(prefix) + start


@settings(max_examples=1000, deadline=None)
@given(NASTY, st.sampled_from(DIALECTS + SEPARATED), st.integers(0, 45), st.data())
def test_next_record_start_from_a_known_state(window: bytes, dialect: Dialect, at: int, draw: st.DataObject) -> None:
    state, prefix = draw.draw(st.sampled_from(sorted(ways_in(dialect).items())))
    assert next_record_start(as_array(window), dialect, state, at) == true_start(prefix, window, dialect, at)


@settings(max_examples=300, deadline=None)
@given(LONG, st.sampled_from(DIALECTS + SEPARATED), st.integers(0, 5000), st.data())
def test_starts_behind_long_stretches(window: bytes, dialect: Dialect, at: int, draw: st.DataObject) -> None:
    state, prefix = draw.draw(st.sampled_from(sorted(ways_in(dialect).items())))
    assert next_record_start(as_array(window), dialect, state, at) == true_start(prefix, window, dialect, at)


@settings(max_examples=300, deadline=None)
@given(LONG, st.sampled_from(DIALECTS + SEPARATED))
def test_state_map_equals_a_run_byte_by_byte(data: bytes, dialect: Dialect) -> None:
    symbols = Symbols.of(dialect)
    table = [[next_state(symbols, state, byte) for byte in range(256)] for state in range(n_states(dialect))]
    ends = []
    for state in range(n_states(dialect)):
        for byte in data:
            state = table[state][byte]
        ends.append(state)
    assert state_map(as_array(data), dialect) == tuple(ends)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(NASTY, LONG), min_size=3, max_size=3), st.sampled_from(DIALECTS + SEPARATED))
def test_state_maps_compose(parts: list[bytes], dialect: Dialect) -> None:
    first, second, third = (state_map(as_array(part), dialect) for part in parts)
    whole = state_map(as_array(b"".join(parts)), dialect)
    assert compose(compose(first, second), third) == compose(first, compose(second, third)) == whole
    assert compose(state_map(as_array(b""), dialect), first) == first


@pytest.mark.parametrize("dialect", DIALECTS + SEPARATED)
def test_every_way_in_leads_to_its_state(dialect: Dialect) -> None:
    ways = ways_in(dialect)
    assert {state_map(as_array(text), dialect)[RECORD_START] for text in ways.values()} == set(ways)
    assert all(state_map(as_array(text), dialect)[RECORD_START] == state for state, text in ways.items())
