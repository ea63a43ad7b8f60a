import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Chunk, Dialect, Span
from beam_etl.reading.csv_arrow import convert_span
from beam_etl.reading.evidence import (
    SeenColumn,
    TableDeclaration,
    columns_of,
    full_evidence,
    infer_schema,
    merge_evidence,
    sample_evidence,
    span_evidence,
    widen_schema,
)
from beam_etl.schema import STRING, ColumnSchema, parse_type
from tests.awkward_files import inspected_file, whole_chunk

LIMIT = 1 << 20
NOTHING = TableDeclaration()


def as_array(data):
    return np.frombuffer(data, dtype=np.uint8)


def evidence_of(file, data, declaration=NOTHING):
    return span_evidence(as_array(data), file, declaration, frozenset(file.columns), LIMIT)


def types(schema):
    return {column.name: str(column.type) for column in schema.columns}


@pytest.fixture(scope="module")
def any_file(tmp_path_factory):
    return inspected_file(tmp_path_factory.mktemp("any") / "f.csv", b"", ("a", "b"))


def test_columns_stand_as_the_first_file_has_them_and_declared_ones_without_a_file_last(any_file):
    later = dataclasses.replace(
        any_file, source=dataclasses.replace(any_file.source, file_id=7), columns=("b", "new", "a")
    )
    declaration = TableDeclaration((ColumnSchema("ghost", parse_type("date"), True), ColumnSchema("b", STRING, True)))
    schema = infer_schema(merge_evidence([columns_of(later), columns_of(any_file)]), declaration)
    assert [column.name for column in schema.columns] == ["a", "b", "new", "ghost"]
    assert [column.declared for column in schema.columns] == [False, True, False, True]
    assert [column.unseen for column in schema.columns] == [True, False, True, False]


def test_a_declared_type_is_neither_looked_at_nor_widened(any_file):
    declaration = TableDeclaration((ColumnSchema("a", parse_type("bigint"), True),))
    seen = evidence_of(any_file, b"x,1\n", declaration)
    assert not seen["a"].evidence.seen
    schema = infer_schema(seen, declaration)
    assert types(widen_schema(schema, {"a": SeenColumn((0, 0))})) == {"a": "bigint", "b": "bigint"}


def test_null_markers_are_no_evidence(any_file):
    marked = TableDeclaration((ColumnSchema("a", STRING, null_markers=("-",)),), null_markers=("n/a",))
    assert types(infer_schema(evidence_of(any_file, b"-,n/a\n1,2.50\n", marked), marked)) == {
        "a": "bigint",
        "b": "decimal(18,2)",
    }


def test_codes_with_leading_zeros_stay_text_and_money_is_exact(any_file):
    assert types(infer_schema(evidence_of(any_file, b"0001,1234.56\n0002,7.5\n"), NOTHING)) == {
        "a": "string",
        "b": "decimal(18,2)",
    }


def test_the_sample_of_a_chunk_is_the_head_of_every_span_and_never_half_a_record(tmp_path):
    # 12345678 would be a number, and its first half too: only whole records may speak.
    data = b"1,2020-01-01\n" * 315 + b"9" * 4095 + b"x,y\n"
    file = inspected_file(tmp_path / "f.csv", data, ("a", "b"))
    seen = sample_evidence(whole_chunk(file), NOTHING, 1, LIMIT)
    assert types(infer_schema(seen, NOTHING)) == {"a": "bigint", "b": "date"}
    halves = (Span(file, 0, 13 * 315), Span(file, 13 * 315, len(data)))
    seen = sample_evidence(Chunk("t", "c", halves), NOTHING, 1 << 20, LIMIT)
    assert types(infer_schema(seen, NOTHING)) == {"a": "string", "b": "string"}


@pytest.mark.parametrize("line_end", ["lf", "cr", "any"])
def test_a_sample_without_any_whole_record_says_nothing(tmp_path, line_end):
    file = inspected_file(tmp_path / "f.csv", b'"' + b"1" * 9000 + b'",2\n', ("a", "b"), Dialect(line_end=line_end))
    seen = sample_evidence(whole_chunk(file), NOTHING, 1, LIMIT)
    assert [column.evidence.seen for column in seen.values()] == [False, False]


VALUES = st.sampled_from(
    ["", "0", "1", "-7", "007", "1.5", "1.25", "1,5", "1e3", "true", "false", "2020-02-29", "2021-02-29", "20200229"]
    + [
        "29/02/2020",
        "02/29/2020",
        "29.02.2020",
        "2020-02-29T01:02:03",
        "2020-02-29 01:02:03Z",
        "2020-02-29T01:02:03+02:00",
    ]
    + ["9223372036854775807", "9223372036854775808", "1" * 38, "1" * 39, "x", "é", "\0", " 1"]
)
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=12)


def text_of(rows):
    return "".join(f'"{a}","{b}"\n' if a or b else ",\n" for a, b in rows).encode()


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 12))
def test_whatever_the_sample_one_widening_gives_what_all_records_give(rows, cut, any_file):
    whole, head = text_of(rows), text_of(rows[:cut])
    complete = infer_schema(evidence_of(any_file, whole), NOTHING)
    first = infer_schema(evidence_of(any_file, head), NOTHING)
    conflicts = converted(any_file, whole, first).conflicts
    evidence = {name: seen for name, seen in evidence_of(any_file, whole).items() if name in conflicts}
    widened = widen_schema(first, evidence)
    assert types(widened) == types(complete)
    again = converted(any_file, whole, widened)
    assert again.conflicts == frozenset()
    assert again.table.num_rows == len(rows)
    for name, position in (("a", 0), ("b", 1)):
        if types(widened)[name] == "string":
            values = [row[position] for row in rows]
            assert [value or "" for value in again.table[name].to_pylist()] == values, "text is never changed"


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(ROWS, max_size=4), seed=st.randoms())
def test_evidence_does_not_depend_on_the_order_of_chunks_nor_on_repetition(parts, seed, any_file):
    seen = [evidence_of(any_file, text_of(rows)) for rows in parts]
    shuffled = [*seen, *seen]
    seed.shuffle(shuffled)
    assert merge_evidence(shuffled) == merge_evidence(seen)
    assert types(infer_schema(merge_evidence([columns_of(any_file), *seen]), NOTHING)) == types(
        infer_schema(evidence_of(any_file, text_of([row for rows in parts for row in rows])), NOTHING)
    )


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"1", b"0", b".", b",", b"\n", b'"', b"-", b"\xe9"])).map(b"".join)
)
def test_recognition_is_conversion_for_any_bytes(data, any_file):
    schema = infer_schema(evidence_of(any_file, data), NOTHING)
    assert converted(any_file, data, schema).conflicts == frozenset()


def test_only_the_columns_asked_for_are_read_in_full(tmp_path):
    file = inspected_file(tmp_path / "f.csv", b"1,x\n2,y\n", ("a", "b"))
    seen = full_evidence(whole_chunk(file), NOTHING, frozenset({"b"}), LIMIT)
    assert {name: column.evidence.seen for name, column in seen.items()} == {"a": False, "b": True}


def converted(file, data, schema):
    span = Span(dataclasses.replace(file, path_bytes=len(data)), 0, len(data))
    return convert_span(as_array(data), span, schema, LIMIT, False, lambda reject: None)
