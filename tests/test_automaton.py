import csv
import dataclasses
import io
import itertools
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.reading.automaton import MALFORMED, RAGGED, TOO_LONG, IndexedRecords, count_lines, index_records
from beam_etl.reading.field_index import ESCAPED, FLAG_BITS, MAX_INDEXED_BYTES, QUOTED
from tests.reference_reader import read_records, record_starts

DIALECTS = [
    Dialect(quote=quote, escape=escape, line_end=line_end, comment=comment)
    for quote, escape, line_end, comment in itertools.product(
        ('"', ""), ("doubled", "backslash", "none"), ("lf", "cr", "any"), ("", "#")
    )
]
NASTY = st.lists(st.sampled_from([bytes([byte]) for byte in b'""",,\n\n\r\\#ab\x00\xff']), max_size=60).map(b"".join)
# Delimiters that begin like themselves, that are told late from what they are not, and of a character of several bytes.
SEPARATED = st.builds(
    lambda dialect, delimiter, encoding: dataclasses.replace(dialect, delimiter=delimiter, encoding=encoding),
    st.sampled_from(DIALECTS),
    st.sampled_from(["||", "|~|", "~|~", "|||", "||~||~", ", ", "§", "|§"]),
    st.sampled_from(["utf-8", "iso-8859-1"]),
)
LONG_LIMIT = 1 << 24


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def index(data: bytes, dialect: Dialect, n_fields: int, max_record_bytes: int = LONG_LIMIT) -> IndexedRecords:
    return index_records(as_array(data), dialect, n_fields, max_record_bytes)


def everything(indexed: IndexedRecords) -> dict[str, object]:
    """All that an index says, as plain lists: good records as (ordinal, start, [(end, flags), ...])."""
    ends = indexed.index.field_ends.tolist()
    starts, record_ends = indexed.record_extents()
    assert record_ends.tolist() == [fields[-1] >> FLAG_BITS for fields in ends]
    assert starts.tolist() == indexed.index.record_starts.tolist()
    return {
        "good": [
            (ordinal, start, [(end >> FLAG_BITS, end & (QUOTED | ESCAPED)) for end in fields])
            for ordinal, start, fields in zip(indexed.ordinals().tolist(), starts.tolist(), ends, strict=True)
        ],
        "broken": list(
            zip(
                indexed.broken_ordinals.tolist(),
                indexed.broken_starts.tolist(),
                indexed.broken_ends.tolist(),
                indexed.broken_codes.tolist(),
                indexed.broken_fields.tolist(),
                strict=True,
            )
        ),
        "n_records": indexed.n_records,
        "skipped_lines": indexed.skipped_lines,
    }


def expected(data: bytes, dialect: Dialect, n_fields: int, max_record_bytes: int = LONG_LIMIT) -> dict[str, object]:
    good, broken, ordinal, skipped = [], [], 0, 0
    for record in read_records(data, dialect):
        if record.kind != "record":
            skipped += 1
            continue
        code = RAGGED if len(record.fields) != n_fields else 0
        code = MALFORMED if record.malformed else code
        code = TOO_LONG if record.end - record.start > max_record_bytes else code
        if code:
            broken.append((ordinal, record.start, record.end, code, len(record.fields)))
        else:
            fields = [(field.end, QUOTED * field.quoted | ESCAPED * field.escaped) for field in record.fields]
            good.append((ordinal, record.start, fields))
        ordinal += 1
    return {"good": good, "broken": broken, "n_records": ordinal, "skipped_lines": skipped}


def values(data: bytes, indexed: IndexedRecords) -> list[list[str]]:
    """The text of each field of each good record, escapes undone (doubled quotes only)."""
    rows = []
    for start, ends in zip(indexed.index.record_starts.tolist(), indexed.index.field_ends.tolist(), strict=True):
        row = []
        for packed in ends:
            raw = data[start : packed >> FLAG_BITS]
            if packed & QUOTED:
                assert raw[:1] == raw[-1:] == b'"'
                raw = raw[1:-1]
            row.append((raw.replace(b'""', b'"') if packed & ESCAPED else raw).decode())
            start = (packed >> FLAG_BITS) + indexed.index.delimiter_bytes
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", []),
        (b"a,b\n", [["a", "b"]]),
        (b"a,b", [["a", "b"]]),
        (b"a,b\r\nc,d\r\n", [["a", "b"], ["c", "d"]]),
        (b",\n", [["", ""]]),
        (b",", [["", ""]]),
        (b",\r\n", [["", ""]]),
        (b'"a","b"\r\n', [["a", "b"]]),
        (b'"",""', [["", ""]]),
        (b'"a\r\nb","c,d"\n', [["a\r\nb", "c,d"]]),
        (b'"a""b",""""\n', [['a"b', '"']]),
        (b'a"b,c""\n', [['a"b', 'c""']]),
        (b' "a",b\n', [[' "a"', "b"]]),
        (b"a\rb,\r\r\n", [["a\rb", "\r"]]),
        (b"a,b\r", [["a", "b\r"]]),
        (b"\n\r\na,b\n\n", [["a", "b"]]),
        (b" ,\n", [[" ", ""]]),
        (b"#a,b\n", [["#a", "b"]]),
    ],
)
def test_values_of_well_formed_records(data: bytes, rows: list[list[str]]) -> None:
    indexed = index(data, Dialect(), 2)
    assert values(data, indexed) == rows
    assert indexed.n_records == len(rows)


@pytest.mark.parametrize(
    ("data", "dialect", "broken"),
    [
        (b"a\na,b\na,b,c\n", Dialect(), [(0, 0, 1, RAGGED, 1), (2, 6, 11, RAGGED, 3)]),
        (b'"A "Q" B",c\n', Dialect(), [(0, 0, 11, MALFORMED, 2)]),
        (b'"A "Q\n" B",c\nd,e\n', Dialect(), [(0, 0, 12, MALFORMED, 2)]),
        (b'd,e\n"a,b\nc,d\n', Dialect(), [(1, 4, 13, MALFORMED, 1)]),
        (b'"a"\rb",c\n', Dialect(), [(0, 0, 8, MALFORMED, 2)]),
        (b'c,"a"\r', Dialect(), [(0, 0, 6, MALFORMED, 2)]),
        (b'c,"a""b"\n', Dialect(escape="none"), [(0, 0, 8, MALFORMED, 2)]),
        (b"a,b\\", Dialect(escape="backslash"), [(0, 0, 4, MALFORMED, 2)]),
        (b"c,d\naaaaaaaaa,b\n", Dialect(), [(1, 4, 15, TOO_LONG, 2)]),
        (b'"aaaaaaaaaaaa,b\n', Dialect(), [(0, 0, 16, TOO_LONG, 1)]),
        (b" \n", Dialect(), [(0, 0, 1, RAGGED, 1)]),
    ],
)
def test_broken_records_are_taken_out_by_extent(data: bytes, dialect: Dialect, broken: list[tuple[int, ...]]) -> None:
    limit = 10 if broken[0][3] == TOO_LONG else LONG_LIMIT
    assert everything(index(data, dialect, 2, limit))["broken"] == broken


def test_blank_lines_of_one_column_files_are_skipped() -> None:
    indexed = index(b'a\n\n\r\n""\n', Dialect(), 1)
    assert [row for (row,) in values(b'a\n\n\r\n""\n', indexed)] == ["a", ""]
    assert indexed.skipped_lines == 2


def test_comments_are_skipped_with_their_quotes() -> None:
    data = b'#"a\n"x#",y\nz,#z\n#'
    indexed = index(data, Dialect(comment="#"), 2)
    assert values(data, indexed) == [["x#", "y"], ["z", "#z"]]
    assert indexed.skipped_lines == 2


def test_a_literal_cr_does_not_belong_to_the_line_end() -> None:
    indexed = index(b"a,b\\\r\nc,d\n", Dialect(escape="backslash"), 2)
    assert everything(indexed)["good"] == [(0, 0, [(1, 0), (5, ESCAPED)]), (1, 6, [(7, 0), (9, 0)])]


def test_more_broken_records_than_first_allotted() -> None:
    data = b"a\nb,c\n\n" * 5000 + b'"'
    assert everything(index(data, Dialect(), 2)) == expected(data, Dialect(), 2)


@settings(max_examples=2500, deadline=None)
@given(NASTY, st.sampled_from(DIALECTS), st.integers(1, 4), st.sampled_from([3, 12, LONG_LIMIT]))
def test_index_equals_the_reference(data: bytes, dialect: Dialect, n_fields: int, limit: int) -> None:
    assert everything(index(data, dialect, n_fields, limit)) == expected(data, dialect, n_fields, limit)


def separated(dialect: Dialect) -> st.SearchStrategy[bytes]:
    """Bytes in which the delimiter, its parts and everything else that matters meet."""
    separator = dialect.separator
    pieces = [separator] * 4 + [separator[:-1], separator[1:], separator[:1], separator + b'"', b'"' + separator]
    pieces += [bytes([byte]) for byte in b'""\n\n\r\\#ab\x00']
    return st.lists(st.sampled_from(pieces), max_size=40).map(b"".join)


@settings(max_examples=2500, deadline=None)
@given(SEPARATED, st.data(), st.integers(1, 4), st.sampled_from([3, 12, LONG_LIMIT]))
def test_index_equals_the_reference_with_delimiters_of_several_bytes(dialect, draw, n_fields, limit) -> None:
    data = draw.draw(separated(dialect))
    assert everything(index(data, dialect, n_fields, limit)) == expected(data, dialect, n_fields, limit)


@settings(max_examples=500, deadline=None)
@given(SEPARATED, st.data(), st.integers(4060, 4100), st.sampled_from([b"x", b'"x']))
def test_a_delimiter_of_several_bytes_across_blocks_and_segments(dialect, draw, filler_bytes, opening) -> None:
    data = opening + b"x" * filler_bytes + draw.draw(separated(dialect)) * 3
    assert everything(index(data, dialect, 2)) == expected(data, dialect, 2)


@pytest.mark.parametrize(
    ("data", "delimiter", "rows"),
    [
        (b"a||b\n", "||", [["a", "b"]]),
        (b"a|b||c\n", "||", [["a|b", "c"]]),
        (b"a|||b\n", "||", [["a", "|b"]]),
        (b"||\n||", "||", [["", ""], ["", ""]]),
        (b'"a||b"||"c""d"\r\n', "||", [["a||b", 'c"d']]),
        (b"a|~b|~|c\n", "|~|", [["a|~b", "c"]]),
        (b"a~|~|~b\n", "~|~", [["a", "|~b"]]),
        (b'"a", "b"\n', ", ", [["a", "b"]]),
        ("a§b\n".encode(), "§", [["a", "b"]]),
    ],
)
def test_values_between_delimiters_of_several_bytes(data, delimiter, rows) -> None:
    assert values(data, index(data, Dialect(delimiter=delimiter), 2)) == rows


@settings(max_examples=1000, deadline=None)
@given(
    NASTY,
    st.one_of(st.integers(0, 130), st.integers(4030, 4100)),
    st.sampled_from([b"x", b'"x', b"#", b"x,", b"\\"]),
    NASTY,
    st.sampled_from(DIALECTS),
)
def test_index_equals_the_reference_across_blocks_and_segments(
    before: bytes, filler_bytes: int, opening: bytes, after: bytes, dialect: Dialect
) -> None:
    data = before + opening + b"x" * filler_bytes + after * 3
    assert everything(index(data, dialect, 2)) == expected(data, dialect, 2)


@settings(max_examples=1000, deadline=None)
@given(NASTY, st.sampled_from([d for d in DIALECTS if not d.comment]), st.integers(1, 3))
def test_between_the_records_there_are_only_line_ends(data: bytes, dialect: Dialect, n_fields: int) -> None:
    indexed = index(data, dialect, n_fields)
    starts, ends = indexed.record_extents()
    extents = sorted([*zip(starts, ends, strict=True), *zip(indexed.broken_starts, indexed.broken_ends, strict=True)])
    assert len(extents) == indexed.n_records
    at = 0
    for start, end in [*extents, (len(data), len(data))]:
        assert set(data[at:start]) <= set(b"\r\n")
        assert start >= at
        at = end


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.sampled_from(DIALECTS), SEPARATED), st.data(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_any_split_at_record_starts_gives_the_same_records(dialect, draw, n_fields, random) -> None:
    data = draw.draw(separated(dialect))
    starts = record_starts(data, dialect)
    cuts = sorted({0, len(data), *random.sample(starts, random.randint(0, len(starts)))})
    good, broken, n_records, skipped = [], [], 0, 0
    for begin, end in itertools.pairwise(cuts):
        part = everything(index(data[begin:end], dialect, n_fields))
        for ordinal, start, fields in part["good"]:
            good.append((ordinal + n_records, start + begin, [(at + begin, flags) for at, flags in fields]))
        for ordinal, start, stop, code, fields in part["broken"]:
            broken.append((ordinal + n_records, start + begin, stop + begin, code, fields))
        n_records += part["n_records"]
        skipped += part["skipped_lines"]
    joined = {"good": good, "broken": broken, "n_records": n_records, "skipped_lines": skipped}
    assert joined == everything(index(data, dialect, n_fields))


TEXT = st.text(alphabet="ab ,;\"\n\r'é", max_size=6)


@settings(max_examples=1000, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1)),
    st.sampled_from([",", ";"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["lf", "any"]),
)
def test_agrees_with_csv_reader_on_what_csv_writer_writes(rows, delimiter, quoting, line_end) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerows(rows)
    text = stream.getvalue()
    data = text.encode()
    indexed = index(data, Dialect(delimiter=delimiter, line_end=line_end), len(rows[0]))
    assert values(data, indexed) == list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert indexed.n_records == len(rows)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a" * 31, b"b"]), max_size=80).map(b"".join))
def test_count_lines(data: bytes) -> None:
    assert count_lines(as_array(data), "lf") == data.count(b"\n")
    assert count_lines(as_array(data), "any") == len(re.findall(rb"\r\n|\r|\n", data))
    assert count_lines(as_array(data), "cr") == data.count(b"\r")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_that_the_index_does_not_need_never_becomes_resident() -> None:
    data = np.full(1 << 26, ord("x"), dtype=np.uint8)
    index(b"x", Dialect(), 1)
    before = resident_bytes()
    indexed = index_records(data, Dialect(), 1, data.size)
    assert resident_bytes() - before < data.size // 4  # room for five times data.size was allocated
    assert indexed.index.field_ends.tolist() == [[data.size << FLAG_BITS]]


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        (Dialect(delimiter=""), "dialect.delimiter is ''"),
        (Dialect(delimiter="-" * 17), "give 1 to 16 bytes"),
        (Dialect(delimiter="|\n|"), "holds a line end"),
        (Dialect(delimiter='|"|'), "dialect.quote '\"' is its delimiter too"),
        (Dialect(delimiter="##", comment="#"), "dialect.comment '#' is its delimiter too"),
        (Dialect(delimiter="漢", encoding="iso-8859-1"), "can't encode"),
        (Dialect(delimiter=";", quote=";"), "dialect.quote ';' is its delimiter too"),
        (Dialect(quote="\\", escape="backslash"), "is its quote too"),
        (Dialect(comment="\n"), "is its line end too"),
    ],
)
def test_a_dialect_whose_characters_clash_is_refused(dialect: Dialect, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        index(b"", dialect, 1)


def test_limits_are_named() -> None:
    with pytest.raises(ValueError, match="limit is 1073741823 bytes"):
        index_records(np.broadcast_to(np.uint8(0), MAX_INDEXED_BYTES), Dialect(), 1, 1)
    with pytest.raises(ValueError, match="n_fields is 0"):
        index(b"", Dialect(), 0)
