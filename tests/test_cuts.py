"""Spans are exact whatever the range size, also where quotes are absent, unbalanced or longer than a window."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_etl.reading import cuts
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from tests.awkward_files import inspected_file

PIECES = [b'"', b",", b"\n", b"\r\n", b"a", b'"x\ny"', b'""', b"\\", b"word,word\n", b'"q, q"\n']


def spans_of(file, range_bytes):
    return compose_spans(file, [summarise_range(r) for r in cut_ranges(file, range_bytes)])


def record_starts(data):
    """Starts of records by reading every byte from the beginning, in the dialect of this file's tests."""
    starts, state = [0], "start"
    for position, byte in enumerate(data):
        character = chr(byte)
        if state in ("start", "field"):
            state = {'"': "quoted", ",": "field", "\n": "end"}.get(character, "text")
        elif state == "text":
            state = {",": "field", "\n": "end"}.get(character, "text")
        elif state == "quoted":
            state = "quote" if character == '"' else "quoted"
        elif state == "quote" or state == "quote_cr":
            if state == "quote" and character == "\r":
                state = "quote_cr"
            elif state == "quote":
                state = {'"': "quoted", ",": "field", "\n": "end"}.get(character, "quoted")
            else:
                state = {"\n": "end", '"': "quote"}.get(character, "quoted")
        if state == "end":
            starts.append(position + 1)
            state = "start"
    return starts


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(cuts, "WINDOW_BEFORE_BYTES", 8)
    monkeypatch.setattr(cuts, "FIRST_WINDOW_AFTER_BYTES", 4)
    monkeypatch.setattr(cuts, "LAST_WINDOW_AFTER_BYTES", 32)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join), st.integers(1, 40))
def test_spans_tile_the_body_at_true_record_starts(tmp_path_factory, data, range_bytes):
    path = Path(tmp_path_factory.getbasetemp()) / "cut.csv"
    file = inspected_file(path, data, ("a", "b"))
    spans = spans_of(file, range_bytes)
    position = 0
    for span in spans:
        assert span.start == position < span.end
        position = span.end
    assert position == len(data)
    assert {span.start for span in spans} <= set(record_starts(data))


def test_a_record_longer_than_a_range_is_not_taken_for_a_start_in_the_next_one(tmp_path):
    data = b',"x\ny""\r\n",word,word\n"\n"'
    spans = spans_of(inspected_file(tmp_path / "a.csv", data, ("a", "b")), 1)
    assert [(span.start, span.end) for span in spans] == [(0, 21), (21, 24)]


def test_a_file_without_quotes_is_cut_although_states_never_merge(tmp_path):
    file = inspected_file(tmp_path / "a.csv", b"12,34\n" * 200, ("a", "b"))
    spans = spans_of(file, 60)
    assert len(spans) == 20
    assert all(span.start % 6 == 0 for span in spans)


def test_quotes_that_appear_late_are_composed_over_the_ranges_before(tmp_path):
    data = b"1,2\n" * 50 + b'"a\n' + b"b\n" * 100 + b'c",2\n' + b"1,2\n" * 50
    file = inspected_file(tmp_path / "a.csv", data, ("a", "b"))
    spans = spans_of(file, 40)
    quoted = data.index(b'"a'), data.index(b'c",2') + 5
    assert not any(quoted[0] < span.start < quoted[1] for span in spans)
    assert {span.start for span in spans} <= set(record_starts(data))
    assert len(spans) > 8


def test_a_lost_range_leaves_its_bytes_to_the_span_before(tmp_path):
    file = inspected_file(tmp_path / "a.csv", b'"1",2\n' * 100, ("a", "b"))
    summaries = [summarise_range(r) for r in cut_ranges(file, 60)]
    del summaries[3]
    spans = compose_spans(file, summaries)
    assert (spans[0].start, spans[-1].end) == (0, 600)
    assert all(a.end == b.start for a, b in zip(spans, spans[1:], strict=False))


def test_an_empty_body_has_no_spans(tmp_path):
    file = inspected_file(tmp_path / "a.csv", b"a,b\n", ("a", "b"), body_start=4)
    assert cut_ranges(file, 10) == []
    assert compose_spans(file, []) == ()
