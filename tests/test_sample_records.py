import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.sources.sample_records import cell_text, split_sample

COMMA = Dialect()


def _cells(data, dialect=COMMA, is_whole=True):
    return [record.cells for record in split_sample(data, dialect, is_whole)]


@pytest.mark.parametrize(
    ("data", "cells"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a", [(b"a",)]),
        (b"a,b\r\n\r\n\nc,", [(b"a", b"b"), (b"c", b"")]),
        (b'"a","b\n,c",d\n', [(b"a", b"b\n,c", b"d")]),
        (b'ab"c,"d"\r\n', [(b'ab"c', b"d")]),
        (b'"","a""b"\n', [(b"", b'a""b')]),
        (b"a\rb,c\r", [(b"a\rb", b"c\r")]),
        (b",\n,\n", [(b"", b""), (b"", b"")]),
        (b"a\0,b\n", [(b"a\0", b"b")]),
    ],
)
def test_records(data, cells):
    assert _cells(data) == cells


def test_line_ends():
    assert _cells(b"a\nb\rc\r", Dialect(line_end="cr")) == [(b"a\nb",), (b"c",)]
    assert _cells(b'a\nb\rc\r\n\r"d"\re', Dialect(line_end="any")) == [(b"a",), (b"b",), (b"c",), (b"d",), (b"e",)]


def test_escapes():
    assert _cells(rb'"a\"b",c\,d' + b"\n", Dialect(escape="backslash")) == [(rb"a\"b", rb"c\,d")]
    assert _cells(b'"a","b""c"\n', Dialect(escape="none"))[0][0] == b"a"
    assert cell_text(b'a""b', True, COMMA, "utf-8") == 'a"b'
    assert cell_text(b'a""b', False, COMMA, "utf-8") == 'a""b'
    assert cell_text(rb"a\"\\\xe9", True, Dialect(escape="backslash"), "utf-8") == 'a"\\xe9'
    assert cell_text(b"\xe7\xff", False, COMMA, "iso-8859-1") == "çÿ"


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b'"A "Q" B",c\nd,e\n', [(12, True), (16, False)]),
        (b'"A "Q\n" B",c\nd,e\n', [(13, True), (17, False)]),
        (b'a,"b\nc,d\n', [(9, True)]),
        (b'"a""b', [(5, True)]),
    ],
)
def test_malformed_quoting_stays_within_its_record(data, ends):
    assert [(record.end, record.malformed) for record in split_sample(data, COMMA, True)] == ends


def test_what_the_end_of_the_sample_cuts_is_not_complete():
    assert [r.complete for r in split_sample(b"a,b\nc,d", COMMA, False)] == [True, False]
    assert [r.complete for r in split_sample(b"a,b\nc,d", COMMA, True)] == [True, True]
    assert [r.complete for r in split_sample(b'"a\n', COMMA, False)] == [False]
    # The line feed may come next, so this record's end is not known.
    assert [r.complete for r in split_sample(b'a,"b"\r', Dialect(line_end="any"), False)] == [False]


_TEXT = st.text(alphabet='ab,;"\r\n ', max_size=6)


@given(st.lists(st.lists(_TEXT, min_size=2, max_size=4), max_size=5), st.sampled_from([",", ";"]))
def test_agrees_with_the_csv_module(rows, delimiter):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    dialect = Dialect(delimiter=delimiter)
    records = list(split_sample(stream.getvalue().encode(), dialect, True))
    texts = [[cell_text(c, q, dialect, "utf-8") for c, q in zip(r.cells, r.quoted, strict=True)] for r in records]
    assert texts == rows
    assert not any(record.malformed for record in records)


@given(
    st.binary(max_size=60) | st.text(alphabet='a,"\\\r\n', max_size=40).map(str.encode),
    st.sampled_from(['"', "'", ""]),
    st.sampled_from(["doubled", "backslash", "none"]),
    st.sampled_from(["lf", "cr", "any"]),
    st.booleans(),
)
def test_any_bytes_split_and_always_advance(data, quote, escape, line_end, is_whole):
    dialect = Dialect("utf-8", ",", quote, escape, line_end)
    ends = [record.end for record in split_sample(data, dialect, is_whole)]
    assert ends == sorted(set(ends))
    assert all(0 < end <= len(data) for end in ends)
