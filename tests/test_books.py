import dataclasses

from beam_etl.loads.books import SinkBooks, apply_policies, balance_table
from beam_etl.loads.table_plan import TablePlan
from beam_etl.model import ChunkRecord, Dialect, InspectedFile, SourceFile, SpanCount

FILES = [SourceFile(i, f"f{i}.csv", "", "t", 100, "v") for i in range(2)]
INSPECTED = {f.file_id: InspectedFile(f, f.uri, 100, "v", Dialect(), 10, ("a",)) for f in FILES}
CHUNKS = {"c0": ((0, 10, 60),), "c1": ((0, 60, 100), (1, 10, 100))}
PLAN = TablePlan("t", INSPECTED, {}, CHUNKS)


def record(sink, chunk_id, **changes):
    spans = tuple(SpanCount(f, s, e, records=10, rejects=1, rejected_bytes=2, lines=10) for f, s, e in CHUNKS[chunk_id])
    whole = ChunkRecord("l", "t", "h", chunk_id, sink, spans, rows=9 * len(spans), rejects=len(spans))
    return dataclasses.replace(whole, **changes)


def sink(name, records=None, stored_rows=27):
    return SinkBooks(name, tuple(records or (record(name, "c0"), record(name, "c1"))), stored_rows)


def balance(planned=FILES, plan=PLAN, sinks=None):
    return balance_table("t", "h", planned, plan, sinks or [sink("parquet"), sink("postgres")])


def test_whole_books_balance():
    books = balance()
    assert books.problems == ()
    assert (books.records_in, books.rows, books.rejects, books.files, books.bytes) == (30, 27, 3, 2, 200)
    assert books.sink_rows == {"parquet": 27, "postgres": 27}


def test_a_lost_file_is_noticed():
    plan = dataclasses.replace(PLAN, inspected={0: INSPECTED[0]}, chunks={"c0": CHUNKS["c0"], "c1": ((0, 60, 100),)})
    assert "f1.csv was planned, but never inspected" in balance(plan=plan).problems


def test_a_table_that_was_never_planned_is_noticed():
    assert balance(plan=None).problems == ("no file of the table was planned into chunks",)


def test_a_lost_span_is_noticed_in_the_middle_and_at_the_end():
    middle = dataclasses.replace(PLAN, chunks={"c1": CHUNKS["c1"]})
    assert "f0.csv: bytes 10 to 60 are in no chunk, or in two" in balance(plan=middle).problems
    end = dataclasses.replace(PLAN, chunks={"c0": CHUNKS["c0"], "c1": ((0, 60, 100),)})
    assert "f1.csv: bytes 10 to 100 are in no chunk" in balance(plan=end).problems


def test_a_span_in_two_chunks_is_noticed():
    plan = dataclasses.replace(PLAN, chunks={**CHUNKS, "c2": ((0, 10, 60),)})
    assert "f0.csv: bytes 60 to 10 are in no chunk, or in two" in balance(plan=plan).problems


def test_a_chunk_without_a_record_is_noticed_in_either_sink():
    for name in ("parquet", "postgres"):
        other = "postgres" if name == "parquet" else "parquet"
        books = balance(sinks=[sink(name, [record(name, "c0")], 9), sink(other)])
        assert f"{name}: chunk c1 was never committed" in books.problems


def test_rows_that_disappeared_from_a_sink_are_noticed():
    assert (
        "postgres: 27 rows were committed, but 26 are stored"
        in balance(sinks=[sink("parquet"), sink("postgres", stored_rows=26)]).problems
    )


def test_records_that_became_neither_row_nor_reject_are_noticed():
    wrong = sink("parquet", [record("parquet", "c0", rows=8), record("parquet", "c1")], 26)
    assert "parquet: chunk c0: 10 records, but 8 rows and 1 rejects" in balance(sinks=[wrong]).problems


def test_a_record_of_an_unplanned_chunk_or_of_other_spans_is_noticed():
    plan = dataclasses.replace(PLAN, chunks={"c0": ((0, 10, 60),), "c1": ((0, 60, 99), (0, 99, 100), (1, 10, 100))})
    assert "parquet: chunk c1 was committed with other spans than planned" in balance(plan=plan).problems
    plan = dataclasses.replace(PLAN, chunks={"c0": ((0, 10, 60), (0, 60, 100), (1, 10, 100))})
    assert "parquet: chunk c1 was committed, but never planned" in balance(plan=plan).problems


def test_a_row_that_one_sink_refused_counts_in_its_books_only():
    refused = sink("postgres", [record("postgres", "c0", rows=8, rejects=2), record("postgres", "c1")], 26)
    books = balance(sinks=[sink("parquet"), refused])
    assert books.problems == ()
    assert books.sink_rows == {"parquet": 27, "postgres": 26}


def test_policies_refuse_with_the_remedy():
    books = balance()
    assert apply_policies(books, 1, "fail_table", 0.1).publishable
    assert "--max_reject_ratio=0.01" in apply_policies(books, 1, "fail_table", 0.01).refusals[0]
    bad_file = dataclasses.replace(books, rejected_files=1, rejects=0, rejected_bytes=0)
    assert "--on_bad_file=publish_without" in apply_policies(bad_file, 1, "fail_table", 0.01).refusals[0]
    assert apply_policies(bad_file, 1, "publish_without", 0.01).publishable
    faultless = dataclasses.replace(books, rejects=0, rejected_bytes=0)
    assert "no column is known" in apply_policies(faultless, 0, "fail_table", 0).refusals[0]


def test_one_reject_that_swallowed_many_records_is_held_to_the_bound_by_its_bytes():
    books = dataclasses.replace(balance(), records_in=1000, rejects=1, rejected_bytes=500, read_bytes=1000)
    (refusal,) = apply_policies(books, 1, "fail_table", 0.01).refusals
    assert "500 of 1000 bytes (50.00%)" in refusal
