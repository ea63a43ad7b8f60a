import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.loads.reject_files import absolute_rejects, span_offsets
from beam_etl.loads.rejects import StagedRejects
from beam_etl.model import REJECT_CODES, Chunk, ChunkRecord, Dialect, Span
from beam_etl.reading.chunk_reader import ChangedFileError
from beam_etl.reading.chunks import pack_chunks
from beam_etl.reading.csv_arrow import convert_chunk, convert_span
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from beam_etl.schema import ColumnSchema, TableSchema, parse_type
from tests.awkward_files import inspected_file, whole_chunk
from tests.reference_reader import read_records

MAX_RECORD_BYTES = 1 << 10
TEXT = ColumnSchema("text", parse_type("string"))
ID = ColumnSchema("id", parse_type("bigint"), declared=True)
INFERRED_ID = dataclasses.replace(ID, declared=False)


def schema(*columns):
    return TableSchema(columns)


def declared(name, type_text):
    return ColumnSchema(name, parse_type(type_text), declared=True)


def converted(file, table_schema, reject_nul=True, max_record_bytes=MAX_RECORD_BYTES):
    """(rows, rejects as (record, line, start, end, column, code, raw), conversion) of a whole file."""
    rejects = []
    result = convert_chunk(whole_chunk(file), table_schema, max_record_bytes, reject_nul, rejects.append)
    places = [(r.record, r.line, r.byte_start, r.byte_end, r.column, r.code, r.raw) for r in rejects]
    return [tuple(row.values()) for row in result.table.to_pylist()], places, result


def test_rows_rejects_and_counts_of_one_span(tmp_path):
    data = b'id,text\n1,a\n\n2,"b\nb"\n3\nx,c\n4,"d"d\n5,\n6,"f"\n'
    file = inspected_file(tmp_path / "f.csv", data, ("id", "text"), body_start=8)
    rows, rejects, result = converted(file, schema(ID, TEXT))
    assert rows == [(1, "a"), (2, "b\nb"), (5, None), (6, "f")]
    assert rejects == [
        (3, 5, 21, 22, "", "ragged_record", b"3"),
        (4, 6, 23, 26, "id", "bad_value", b"x,c"),
        (5, 7, 27, 33, "", "malformed_quoting", b'4,"d"d'),
    ]
    [count] = result.counts
    assert (count.records, count.rejects, count.lines, count.skipped_lines) == (7, 3, 9, 1)


def test_spans_of_several_files_are_one_table_and_number_their_rejects_by_themselves(tmp_path):
    files = [
        inspected_file(tmp_path / "a.csv", b"id,text\n1,a\nx,b\n", ("id", "text"), body_start=8),
        inspected_file(
            tmp_path / "b.csv", b"text;id\nc;3\nd;y\ne;5", ("text", "id"), Dialect(delimiter=";"), 8, file_id=1
        ),
        inspected_file(tmp_path / "c.csv", b"", ("id",), file_id=2),
    ]
    chunk = Chunk("t", "c", tuple(Span(file, file.body_start, file.path_bytes) for file in files))
    rejects = []
    result = convert_chunk(chunk, schema(ID, TEXT), MAX_RECORD_BYTES, False, rejects.append)
    assert result.table.to_pydict() == {"id": [1, 3, 5], "text": ["a", "c", "e"]}
    assert [(r.span_index, r.record, r.line, r.raw) for r in rejects] == [(0, 2, 2, b"x,b"), (1, 2, 2, b"d;y")]
    assert [(count.file_id, count.records, count.rejects) for count in result.counts] == [
        (0, 2, 1),
        (1, 3, 1),
        (2, 0, 0),
    ]


def test_columns_that_a_file_does_not_have_are_null_and_those_that_nobody_wants_are_left_out(tmp_path):
    file = inspected_file(tmp_path / "f.csv", b"1,z,a\n2,z,b\n", ("id", "dropped", "text"))
    table_schema = schema(TEXT, declared("day", "date"), declared("price", "decimal(9,2)"), ID)
    rows, rejects, result = converted(file, table_schema)
    assert rows == [("a", None, None, 1), ("b", None, None, 2)]
    assert rejects == []
    assert result.table.schema.equals(table_schema.arrow, check_metadata=True)


def test_a_value_that_does_not_fit_an_inferred_type_is_a_conflict_and_no_reject(tmp_path):
    file = inspected_file(tmp_path / "f.csv", b"1,a\n1.5,b\n3\n", ("id", "text"))
    _, rejects, result = converted(file, schema(INFERRED_ID, TEXT))
    assert result.conflicts == {"id"}
    assert rejects == [], "the next attempt finds them again"


def test_undecodable_bytes_and_nul_characters_are_rejects_even_in_inferred_columns(tmp_path):
    data = b"1,a\n2,\xff\n3,b\0\n4,d\n"
    file = inspected_file(tmp_path / "f.csv", data, ("id", "text"))
    rows, rejects, result = converted(file, schema(INFERRED_ID, TEXT))
    assert (rows, result.conflicts) == ([(1, "a"), (4, "d")], frozenset())
    assert [(r[0], r[4], r[5]) for r in rejects] == [(2, "text", "undecodable"), (3, "text", "nul_character")]
    rows, rejects, _ = converted(file, schema(INFERRED_ID, TEXT), reject_nul=False)
    assert (rows[1], len(rejects)) == ((3, "b\0"), 1)


def test_the_first_column_at_fault_names_the_reject(tmp_path):
    file = inspected_file(tmp_path / "f.csv", b"x,y\n", ("id", "day"))
    _, [reject], _ = converted(file, schema(ID, declared("day", "date")))
    assert reject[4] == "id"
    _, [reject], _ = converted(file, schema(declared("day", "date"), ID))
    assert reject[4] == "day"


def test_a_record_longer_than_allowed_is_rejected_with_its_extent(tmp_path):
    data = b'1,"' + b"x" * 2000 + b'"\n2,b\n'
    rows, [reject], _ = converted(inspected_file(tmp_path / "f.csv", data, ("id", "text")), schema(ID, TEXT))
    assert rows == [(2, "b")]
    assert reject[:6] == (1, 1, 0, 2004, "", "record_too_long")


def test_a_file_that_changed_since_it_was_inspected_is_never_converted(tmp_path):
    file = inspected_file(tmp_path / "f.csv", b"1,a\n", ("id", "text"))
    (tmp_path / "f.csv").write_bytes(b"2,b\n3,c\n")
    with pytest.raises(ChangedFileError, match="run the same command again when the file is complete"):
        converted(file, schema(ID, TEXT))
    (tmp_path / "f.csv").unlink()
    with pytest.raises(ChangedFileError, match="is gone"):
        converted(file, schema(ID, TEXT))


# Bytes that matter, bytes that do not, and pieces that make records.
PIECES = st.sampled_from(
    [
        *(bytes([byte]) for byte in b'",;\n\r\\#1x-.\0'),
        b"\xff",
        b"\xc3\xa9",
        b"1,a\n",
        b'2,"b"\n',
        b'"",',
        b"\r\n",
        b'3,"c\nc"\n',
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map(b"".join) | st.binary(max_size=80)
DIALECTS = st.builds(
    Dialect,
    encoding=st.sampled_from(["utf-8", "iso-8859-1", "cp1252"]),
    delimiter=st.sampled_from([",", ";"]),
    quote=st.sampled_from(['"', ""]),
    escape=st.sampled_from(["doubled", "backslash", "none"]),
    line_end=st.sampled_from(["lf", "cr", "any"]),
    comment=st.sampled_from(["", "#"]),
)
ALL_TYPES = ("string", "bigint", "decimal(5,2)", "decimal(30,2)", "double", "boolean", "date", "date(YYYYMMDD)")
COLUMNS = st.lists(
    st.tuples(st.sampled_from([*ALL_TYPES, "timestamp", "timestamptz"]), st.booleans()), min_size=1, max_size=3
)


@settings(max_examples=400, deadline=None)
@given(
    data=TEXTS, dialect=DIALECTS, columns=COLUMNS, reject_nul=st.booleans(), max_record_bytes=st.sampled_from([4, 1024])
)
def test_any_bytes_balance_and_nothing_raises(data, dialect, columns, reject_nul, max_record_bytes, any_file):
    names = tuple(f"c{position}" for position in range(len(columns)))
    table_schema = TableSchema(
        tuple(
            ColumnSchema(name, parse_type(text), is_declared)
            for name, (text, is_declared) in zip(names, columns, strict=True)
        )
    )
    file = dataclasses.replace(any_file, dialect=dialect, columns=names, path_bytes=len(data))
    rejects = []
    span = Span(file, 0, len(data))
    array = np.frombuffer(data, dtype=np.uint8)
    result = convert_span(array, span, table_schema, max_record_bytes, reject_nul, rejects.append)
    [count] = result.counts
    records = [record for record in read_records(data, dialect) if record.kind == "record"]
    suspects = [r for r in records if r.malformed or r.end - r.start > max_record_bytes]
    # Behind a stray quote there may be more records than the automaton alone finds, but never fewer, and never elsewhere.
    assert count.records == len(records) if not suspects else count.records >= len(records)
    assert result.table.num_rows + count.rejects == count.records
    result.table.validate(full=True)
    assert result.table.schema.equals(table_schema.arrow)
    assert len(rejects) == (0 if result.conflicts else count.rejects)
    extents = {(record.start, record.end) for record in records}
    for reject in rejects:
        assert reject.code in REJECT_CODES
        assert reject.raw == data[reject.byte_start : reject.byte_end]
        assert (reject.byte_start, reject.byte_end) in extents or any(
            suspect.start <= reject.byte_start <= reject.byte_end <= suspect.end for suspect in suspects
        )
        if not suspects:
            assert records[reject.record - 1].start == reject.byte_start
        if dialect.line_end == "lf":
            assert reject.line == 1 + data[: reject.byte_start].count(b"\n")
    assert [r.record for r in rejects] == sorted({r.record for r in rejects})
    assert all(a.byte_end < b.byte_start for a, b in itertools.pairwise(rejects))


@pytest.fixture(scope="module")
def any_file(tmp_path_factory):
    return inspected_file(tmp_path_factory.mktemp("any") / "f.csv", b"", ("c0",))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """New paths, one after the other."""
    directory = tmp_path_factory.mktemp("cuts")
    return (directory / f"{number}" for number in itertools.count())


def landed(file, range_bytes, chunk_bytes, table_schema, places):
    """Rows in file order, and rejects with absolute numbers, of a file cut into chunks."""
    spans = compose_spans(file, [summarise_range(range_) for range_ in cut_ranges(file, range_bytes)])
    tables, records = [table_schema.arrow.empty_table()], []
    for chunk in pack_chunks("t", spans, chunk_bytes):
        staged = StagedRejects(str(next(places)))
        result = convert_chunk(chunk, table_schema, 64, False, staged.add)
        tables.append(result.table)
        records.append(
            ChunkRecord(
                *("l", "t", "h", chunk.chunk_id, "parquet", result.counts, result.table.num_rows, staged.count),
                rejects_file=staged.close(),
            )
        )
    offsets = span_offsets(reversed(records), {0: 3})
    rejects = [reject for record in records if record.rejects_file for reject in absolute_rejects(record, offsets)]
    assert all(record.records == record.rows + record.rejects for record in records)
    return pa.concat_tables(tables).to_pylist(), rejects, sum(record.records for record in records)


@settings(max_examples=150, deadline=None)
@given(
    data=TEXTS,
    dialect=DIALECTS,
    range_bytes=st.integers(1, 40),
    chunk_bytes=st.integers(1, 80),
)
def test_every_cut_gives_the_rows_and_the_numbered_rejects_of_the_whole(
    data, dialect, range_bytes, chunk_bytes, places
):
    file = inspected_file(next(places), data, ("id", "text"), dialect)
    table_schema = schema(ID, TEXT)
    whole = landed(file, 1 << 20, 1 << 20, table_schema, places)
    assert landed(file, range_bytes, chunk_bytes, table_schema, places) == whole
