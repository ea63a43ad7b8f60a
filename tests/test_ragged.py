"""Padding of ragged records, and what becomes of values that do not fit: any bytes balance under every policy."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Chunk, Dialect, InspectedFile, SourceFile, Span
from beam_etl.reading.automaton import index_records
from beam_etl.reading.chunks import pack_chunks
from beam_etl.reading.csv_arrow import convert_chunk, convert_span
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from beam_etl.reading.evidence import TableDeclaration, infer_schema, merge_evidence, span_evidence
from beam_etl.reading.ragged import LEAST_PADDED_FIELDS, _pad_ragged, read_file_records
from beam_etl.schema import LINEAGE, ColumnSchema, TableSchema, computed_column, parse_type
from tests.awkward_files import inspected_file

NAMES = ("id", "text", "day")
WIDTH = 1 << 10


def file_of(data: bytes, columns=NAMES, on_ragged="pad", dialect=None) -> InspectedFile:
    source = SourceFile(0, "lake/f.zip", "m.csv", "t", len(data), "v")
    return InspectedFile(source, "f", len(data), "v", dialect or Dialect(), 0, columns, on_ragged=on_ragged)


def converted(data, columns, file=None, reject_nul=True):
    """(rows, rejects as (record, code, raw), the span's count)"""
    file = file or file_of(data)
    rejects = []
    array = np.frombuffer(data, np.uint8)
    result = convert_span(
        array, Span(file, 0, len(data)), TableSchema(columns), WIDTH, reject_nul, rejects.append, 0, "load"
    )
    rows = [tuple(row.values()) for row in result.table.to_pylist()]
    return rows, [(r.record, r.code, r.raw) for r in rejects], result.counts[0]


def column(name, type_text="string", on_conflict="widen", declared=True):
    return ColumnSchema(name, parse_type(type_text), declared, on_conflict=on_conflict)


TEXTS = tuple(column(name) for name in NAMES)


def test_missing_fields_are_null_and_empty_ones_too_many_are_left_out():
    data = b'1,a,x\n2\n3,"b,\n",,,\n4,c,y,z\n5,d\n6,e,f\n'
    rows, rejects, count = converted(data, TEXTS)
    assert rows == [("1", "a", "x"), ("2", None, None), ("3", "b,\n", None), ("5", "d", None), ("6", "e", "f")]
    assert rejects == [(4, "ragged_record", b"4,c,y,z")]
    assert (count.records, count.rejects, count.padded, count.rejected_bytes) == (6, 1, 3, 7)


def test_without_the_policy_all_of_them_are_rejected():
    data = b"1,a,x\n2\n3,b,,\n"
    rows, rejects, count = converted(data, TEXTS, file_of(data, on_ragged="reject"))
    assert (rows, [code for _, code, _ in rejects], count.padded) == ([("1", "a", "x")], ["ragged_record"] * 2, 0)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'1,a,"",""\n', []),  # an empty text in quotes is a value
        (b'1,a,x,""\n', []),
        (b"1,a,x,,\n", [("1", "a", "x")]),
        (b"1,a,x,,", [("1", "a", "x")]),
        (b"1,a\r\n", [("1", "a", None)]),
        (b"a", [("a", None, None)]),
        (b"\n\n", []),
        (b"", []),
    ],
)
def test_padding_to_the_byte(data, rows):
    assert converted(data, TEXTS)[0] == rows


def test_an_escaped_delimiter_is_no_empty_field():
    dialect = Dialect(escape="backslash")
    data = b"a,b\\,,\nc\n\\,,\n"
    file = file_of(data, ("one", "two"), dialect=dialect)
    rows, rejects, _ = converted(data, (column("one"), column("two")), file)
    assert rows == [("a", "b,"), ("c", None), (",", None)]
    data = b"a,\\,,\n"
    file = file_of(data, ("one",), dialect=dialect)
    rows, rejects, _ = converted(data, (column("one"),), file)
    assert (rows, rejects) == ([], [(1, "ragged_record", b"a,\\,,")])


def test_a_stump_is_not_blown_up_without_bound():
    names = tuple(f"c{n}" for n in range(LEAST_PADDED_FIELDS + 40))
    data = b"a\n" + b"a" * 20 + b"\n"
    records = read_file_records(np.frombuffer(data, np.uint8), file_of(data, names), WIDTH)
    assert (records.index.n_records, records.broken_ordinals.tolist()) == (1, [0])


def test_a_padded_record_is_rejected_as_it_stands_in_the_file():
    data = b"1,a,2020-01-01\nx,b\n\n3\n"
    rows, rejects, count = converted(data, (column("id", "bigint"), *TEXTS[1:]))
    assert rows == [(1, "a", "2020-01-01"), (3, None, None)]
    assert (rejects, count.padded, count.misfits) == ([(2, "bad_value", b"x,b")], 1, 1)


def test_rescued_values_are_null_and_kept_beside():
    columns = (column("id", "bigint", "rescue"), TEXTS[1], column("day", "date", "rescue", declared=False))
    data = '1,a,2020-01-01\nx1,ü,0"\n2,c,"say ""é"""\n\xff,d,\n'.encode("latin-1")
    file = file_of(data, dialect=Dialect(encoding="iso-8859-1"))
    rows, rejects, count = converted(data, (*columns, computed_column("_rescued")), file)
    assert [row[0] for row in rows] == [1, None, 2, None]
    texts = [row[3] and json.loads(row[3]) for row in rows]
    assert texts == [None, {"id": "x1", "day": '0"'}, {"day": 'say "é"'}, {"id": "ÿ"}]
    assert (rejects, count.rescued, count.rejects, count.misfits) == ([], 4, 0, 0)


def test_what_is_no_text_cannot_be_rescued():
    columns = (column("id", "bigint", "rescue"), *TEXTS[1:], computed_column("_rescued"))
    data = b"\xff,a,b\n1,a,b\nx\0,a,b\ny,a,\xff\n"
    rows, rejects, count = converted(data, columns)
    assert [row[0] for row in rows] == [1]
    assert [code for _, code, _ in rejects] == ["undecodable", "nul_character", "undecodable"]
    assert (count.rescued, count.rejects) == (0, 3)
    assert [json.loads(row[3])["id"] for row in converted(b"x\0,a,b\n", columns, reject_nul=False)[0]] == ["x\0"]


@pytest.mark.parametrize("policy", ["reject", "fail"])
def test_inferred_columns_can_be_held(policy):
    data = b"1,a,b\nx,a,b\n"
    rows, rejects, count = converted(data, (column("id", "bigint", policy, declared=False), *TEXTS[1:]))
    assert (rows, rejects, count.misfits) == ([(1, "a", "b")], [(2, "bad_value", b"x,a,b")], 1)


def test_lineage_names_file_member_place_and_load():
    columns = (TEXTS[0], *(computed_column(name) for name in LINEAGE[:3]))
    data = b"1,a,b\n\n2\n"
    assert converted(data, columns)[0] == [("1", "lake/f.zip!m.csv", 0, "load"), ("2", "lake/f.zip!m.csv", 7, "load")]


def test_evidence_sees_padded_records_as_conversion_does():
    data = b"1,a\n2,b,x\n"
    seen = span_evidence(np.frombuffer(data, np.uint8), file_of(data), TableDeclaration(), frozenset(NAMES), WIDTH)
    assert [str(c.type) for c in infer_schema(seen, TableDeclaration()).columns] == ["bigint", "string", "string"]
    held = infer_schema(merge_evidence([seen]), TableDeclaration(on_conflict="rescue", lineage=("_file",)))
    assert (held.names, [c.source for c in held.columns]) == (
        (*NAMES, "_rescued", "_file"),
        ["", "", "", "_rescued", "_file"],
    )
    assert not any(c.widens for c in held.columns)


SCRAPS = st.lists(
    st.sampled_from(
        [b"1", b"x", b",", b",,", b"\n", b"\r\n", b'"', b'""', b"\\", b"\0", b"\xff", b"2020-01-01", b"\xc3\xa9"]
    ),
    max_size=40,
).map(b"".join)
DIALECTS = st.sampled_from(
    [Dialect(), Dialect(escape="backslash"), Dialect(quote="", escape="none"), Dialect(line_end="any")]
)


@settings(max_examples=300)
@given(
    data=SCRAPS,
    dialect=DIALECTS,
    on_ragged=st.sampled_from(["reject", "pad"]),
    on_conflict=st.sampled_from(["widen", "reject", "rescue", "fail"]),
    inferred=st.booleans(),
    cut_bytes=st.integers(1, 30),
)
def test_any_bytes_balance_under_every_policy_however_they_are_split(
    tmp_path_factory, data, dialect, on_ragged, on_conflict, inferred, cut_bytes
):
    path = tmp_path_factory.mktemp("f") / "f.csv"
    file = dataclasses.replace(inspected_file(path, data, NAMES, dialect), on_ragged=on_ragged)
    columns = (
        column("id", "bigint", on_conflict, declared=not inferred),
        column("text", "string", on_conflict),
        column("day", "date", on_conflict, declared=not inferred),
        computed_column("_rescued"),
        computed_column("_byte_start"),
    )
    schema = TableSchema(columns)
    results = []
    for size in (max(len(data), 1), cut_bytes):
        spans = compose_spans(file, [summarise_range(range_) for range_ in cut_ranges(file, size)])
        rows, rejects, counts, conflicts = [], [], [], frozenset()
        for chunk in pack_chunks("t", spans, size) or [Chunk("t", "c", (Span(file, 0, 0),))]:
            result = convert_chunk(chunk, schema, WIDTH, True, rejects.append, "load")
            assert result.table.num_rows + sum(c.rejects for c in result.counts) == sum(
                c.records for c in result.counts
            )
            rows += result.table.to_pylist()
            counts += result.counts
            conflicts |= result.conflicts
        assert bool(conflicts) <= (inferred and on_conflict == "widen")
        if not conflicts:
            assert len(rejects) == sum(c.rejects for c in counts)
        places = sorted([row["_byte_start"] for row in rows] + [r.byte_start for r in rejects])
        assert len(set(places)) == len(places)
        rescued = sum(len(json.loads(row["_rescued"])) for row in rows if row["_rescued"])
        assert rescued == sum(c.rescued for c in counts)
        if not conflicts:
            results.append((rows, [(r.byte_start, r.byte_end, r.code) for r in rejects], sum(c.padded for c in counts)))
    assert len(results) < 2 or results[0] == results[1]


def test_part_of_a_delimiter_at_the_end_is_never_padded_into_another_one():
    """With two more bars `a||b|` would read as a, b and a bar."""
    data = np.frombuffer(b"a||b\na||b|\n", np.uint8)
    dialect = Dialect(delimiter="||")
    padded = _pad_ragged(index_records(data, dialect, 3, 1 << 20), data, dialect, 3)
    assert (padded.index.n_records, padded.broken_starts.tolist()) == (1, [5])
