import json
from pathlib import Path

import pytest

from beam_etl.loads.reject_files import rejects_directory, span_offsets, write_table_rejects
from beam_etl.loads.rejects import StagedRejects
from beam_etl.loads.table_plan import FileOutcome, write_table_plan
from beam_etl.model import ChunkRecord, Dialect, InspectedFile, Reject, SourceFile, Span, SpanCount
from beam_etl.reading.chunks import pack_chunks

LOAD, TABLE = "key-000", "t/1"


def counted(file_id, start, end, records, rejects, lines):
    return SpanCount(
        file_id=file_id, start=start, end=end, records=records, rejects=rejects, rejected_bytes=0, lines=lines
    )


def source(file_id):
    return SourceFile(file_id, f"f{file_id}.csv", "", TABLE, 100, "v")


def inspected(file_id, header_lines=0):
    return InspectedFile(source(file_id), f"f{file_id}.csv", 100, "v", Dialect(), 10, ("a",), header_lines)


def reject(record, line, span_index=0, file="f0.csv"):
    return Reject(file, "", record, line, 0, 1, "", "ragged_record", "why", b"x", span_index=span_index)


def test_offsets_are_the_sums_of_what_comes_before_in_each_file_whatever_the_order_of_records():
    def record(*spans):
        return ChunkRecord("l", "t", "h", "c", "parquet", spans, 0, 0)

    spans = [
        counted(0, 10, 50, 4, 0, 6),
        counted(0, 50, 100, 3, 0, 3),
        counted(1, 10, 100, 9, 0, 9),
        counted(2, 0, 5, 1, 0, 1),
    ]
    records = [record(spans[3]), record(spans[1], spans[2]), record(spans[0])]
    assert span_offsets(records, {0: 2, 1: 1}) == {(0, 10): (0, 2), (0, 50): (4, 8), (1, 10): (0, 1), (2, 0): (0, 0)}


@pytest.fixture
def planned(tmp_path):
    """A table of two read files in two chunks and a rejected one; returns the output and the commit records."""
    output = str(tmp_path)
    files = [inspected(0, header_lines=1), inspected(1)]
    spans = [(Span(files[0], 10, 60),), (Span(files[0], 60, 100), Span(files[1], 10, 100))]
    outcomes = [
        FileOutcome(files[0].source, files[0], (spans[0][0], spans[1][0])),
        FileOutcome(files[1].source, files[1], (spans[1][1],)),
        FileOutcome(source(2), reject=Reject("f2.csv", "", 0, 0, 0, 100, "", "unreadable_file", "gone", b"")),
    ]
    chunks = pack_chunks(TABLE, [span for group in spans for span in group], 1 << 20)
    write_table_plan(output, LOAD, TABLE, outcomes, chunks)
    first, second = StagedRejects(str(tmp_path / "s1")), StagedRejects(str(tmp_path / "s2"))
    first.add(reject(3, 4))
    second.add(reject(1, 1))
    second.add(reject(2, 2, span_index=1, file="f1.csv"))
    records = [
        ChunkRecord(
            LOAD, TABLE, "h", "c0", "parquet", (counted(0, 10, 60, 5, 1, 7),), 4, 1, rejects_file=first.close()
        ),
        ChunkRecord(
            *(LOAD, TABLE, "h", "c1", "parquet"),
            (counted(0, 60, 100, 2, 1, 2), counted(1, 10, 100, 3, 1, 3)),
            *(3, 2),
            rejects_file=second.close(),
        ),
        ChunkRecord(LOAD, TABLE, "h", "c2", "parquet", (counted(1, 100, 100, 0, 0, 0),), 0, 0),
    ]
    return output, records


def lines(output):
    directory = rejects_directory(output, LOAD, TABLE)

    return {
        path.name: [(r["file"], r["record"], r["line"]) for r in map(json.loads, path.read_text().splitlines())]
        for path in Path(directory).iterdir()
    }


def test_rejects_are_numbered_from_the_start_of_their_files(planned):
    output, records = planned
    assert write_table_rejects(output, LOAD, TABLE, records) == 4
    assert lines(output) == {
        "files.jsonl": [("f2.csv", 0, 0)],
        "c0.jsonl": [("f0.csv", 3, 5)],
        "c1.jsonl": [("f0.csv", 6, 9), ("f1.csv", 2, 2)],
    }


def test_writing_them_again_changes_nothing(planned):
    output, records = planned
    write_table_rejects(output, LOAD, TABLE, records)
    before = lines(output)
    assert write_table_rejects(output, LOAD, TABLE, list(reversed(records))) == 4
    assert lines(output) == before


def test_a_table_that_was_never_planned_has_no_rejects(tmp_path):
    assert write_table_rejects(str(tmp_path), LOAD, TABLE, []) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_the_same_with_and_without_a_slash_at_the_end(tmp_path):
    assert rejects_directory("lake/", LOAD, TABLE) == rejects_directory("lake", LOAD, TABLE)
    assert rejects_directory("lake", LOAD, TABLE) == f"lake/_beam_etl/rejects/{LOAD}/t%2F1"
