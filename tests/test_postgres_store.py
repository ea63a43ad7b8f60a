import concurrent.futures
import contextlib
import datetime
import math
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from beam_etl.loads.table_state import PublishTerms, TableChangedError
from beam_etl.model import Chunk, ConvertedChunk, Dialect, InspectedFile, SourceFile, Span, SpanCount
from beam_etl.postgres.errors import (
    PostgresConfigurationError,
    PostgresError,
    PostgresUnavailableError,
    PublishRefusedError,
)
from beam_etl.postgres.ledger import CommittedChunk
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema

UTC = datetime.timezone.utc
BIGINT = TableSchema((ColumnSchema("n", ColumnType("bigint")),))


def make_schema(**types: ColumnType) -> TableSchema:
    return TableSchema(tuple(ColumnSchema(name, type_) for name, type_ in types.items()))


def make_chunk(table: str, schema: TableSchema, records: int, number: int = 0, rejects: int = 0) -> ConvertedChunk:
    source = SourceFile(0, "in.csv", "", table, 1000, "1000-1")
    file = InspectedFile(source, "in.csv", 1000, "1000-1", Dialect(), 0, schema.names)
    span = Span(file, number, number + 1)
    chunk = Chunk(table, f"{0:06d}-{number:014d}", (span,))
    counts = (SpanCount(0, number, number + 1, records, rejects, 0, records),)
    return ConvertedChunk(chunk, schema.hash, counts, "rejects.arrow" if rejects else "")


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def fetch(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def poll(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


@pytest.fixture
def open_store(database: str) -> Iterator[Callable[..., PostgresStore]]:
    """Opens stores on the test's database; closes them at its end."""
    opened: list[PostgresStore] = []

    def make(dsn: str = database, load_id: str = "load-1", **fields: Any) -> PostgresStore:
        store = PostgresStore(dsn, load_id, **{"retry_seconds": 30.0, **fields})
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., PostgresStore]) -> PostgresStore:
    made = open_store()
    made.prepare()
    return made


def stage(store: PostgresStore, table: str, schema: TableSchema, data: pa.Table, number: int = 0) -> CommittedChunk:
    store.create_staging(table, schema)
    return store.commit_chunk(make_chunk(table, schema, data.num_rows, number), data)


def load(store: PostgresStore, table: str, *values: int) -> None:
    store.prepare()
    stage(store, table, BIGINT, numbers(*values))
    assert store.publish(table, BIGINT.hash, len(values), 0)


class CommitEatingProxy:
    """A TCP relay to the server that, when armed, lets one COMMIT through and cuts the line instead of answering."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._target = f"{parts['host']}/.s.PGSQL.{parts['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.armed = threading.Event()
        self.eaten = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            cut = threading.Event()
            threading.Thread(target=self._relay, args=(client, server, cut, True), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, cut, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, cut: threading.Event, from_client: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if from_client and self.armed.is_set() and b"COMMIT\0" in data:
                    self.armed.clear()
                    cut.set()
                elif not from_client and cut.is_set():
                    self.eaten += 1  # the server has answered, so it has committed; the client never hears of it
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(database: str) -> Iterator[CommitEatingProxy]:
    relay = CommitEatingProxy(database)
    yield relay
    relay.close()


# --- values


def test_every_type_round_trips_exactly(store: PostgresStore, database: str) -> None:
    columns: dict[str, tuple[ColumnType, list[Any]]] = {
        "flag": (ColumnType("boolean"), [True, False, None, True]),
        "whole": (ColumnType("bigint"), [-(2**63), 2**63 - 1, None, 0]),
        "money": (
            ColumnType("decimal", 18, 2),
            [Decimal("9999999999999999.99"), Decimal("-9999999999999999.99"), None, Decimal("0.01")],
        ),
        "long": (
            ColumnType("decimal", 38, 10),
            [Decimal("9" * 28 + "." + "9" * 10), Decimal("-" + "9" * 28 + "." + "9" * 10), None, Decimal("1E-10")],
        ),
        "integer38": (ColumnType("decimal", 38, 0), [Decimal("9" * 38), Decimal("-1"), None, Decimal("10000")]),
        "real": (ColumnType("double"), [1.7976931348623157e308, 5e-324, None, -math.inf]),
        "day": (
            ColumnType("date"),
            [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(1900, 2, 28)],
        ),
        "moment": (
            ColumnType("timestamp"),
            [
                datetime.datetime(1, 1, 1),
                datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
                None,
                datetime.datetime(2000, 1, 1, 0, 0, 0, 1),
            ],
        ),
        "instant": (
            ColumnType("timestamp", zone="Z"),
            [
                datetime.datetime(1, 1, 2, tzinfo=UTC),
                datetime.datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
                None,
                datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            ],
        ),
        "text": (
            ColumnType("string"),
            ['Łódź, «quoted» "twice"\r\nnext\tline\\N', "", None, "🐘 ́e \x01\x7f 漢字 ' ; DROP"],
        ),
    }
    schema = make_schema(**{name: type_ for name, (type_, _) in columns.items()})
    data = pa.table({name: pa.array(values, type_.arrow) for name, (type_, values) in columns.items()})
    record, row_errors = stage(store, "types", schema, data)
    assert (record.rows, record.rejects, row_errors) == (4, 0, [])
    assert store.publish("types", schema.hash, 4, 0)

    expected = sorted(zip(*(values for _, values in columns.values()), strict=True), key=repr)
    found = sorted(fetch(database, "SELECT * FROM types"), key=repr)
    assert found == expected
    scales = fetch(database, "SELECT DISTINCT scale(money), scale(long), scale(integer38) FROM types WHERE flag")
    assert scales == [(2, 10, 0)]
    declared = fetch(
        database,
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'types'::regclass AND attnum > 0 ORDER BY attnum",
    )
    assert [row[0] for row in declared] == [type_.postgres for type_, _ in columns.values()]


def test_not_a_number_and_negative_zero(store: PostgresStore, database: str) -> None:
    schema = make_schema(x=ColumnType("double"))
    stage(store, "t", schema, pa.table({"x": pa.array([math.nan, -0.0], pa.float64())}))
    store.publish("t", schema.hash, 2, 0)
    nan, zero = (row[0] for row in fetch(database, "SELECT x FROM t"))
    assert math.isnan(nan) and math.copysign(1, zero) == -1


def test_dictionaries_chunked_and_sliced_arrays_are_decoded(store: PostgresStore, database: str) -> None:
    schema = make_schema(colour=ColumnType("string"), n=ColumnType("bigint"))
    colours = ["red", None, "grün", "red"] * 5000
    encoded = pa.chunked_array([pa.array(colours[:7]).dictionary_encode(), pa.array(colours[7:]).dictionary_encode()])
    data = pa.table({"colour": encoded, "n": pa.array(range(20000), pa.int64())}).slice(3, 19990)
    stage(store, "t", schema, data)
    store.publish("t", schema.hash, 19990, 0)
    assert fetch(database, "SELECT colour, n FROM t ORDER BY n") == [(colours[i], i) for i in range(3, 19993)]


def test_value_larger_than_an_encoded_batch(store: PostgresStore, database: str) -> None:
    schema = make_schema(text=ColumnType("string"))
    stage(store, "t", schema, pa.table({"text": ["x" * (5 << 20), "y"]}))
    store.publish("t", schema.hash, 2, 0)
    assert fetch(database, "SELECT length(text) FROM t ORDER BY 1") == [(1,), (5 << 20,)]


def test_chunk_without_rows_is_committed(store: PostgresStore) -> None:
    store.create_staging("t", BIGINT)
    record, _ = store.commit_chunk(make_chunk("t", BIGINT, records=3, rejects=3), numbers())
    assert (record.rows, record.rejects, record.records, record.rejects_file) == (0, 3, 3, "rejects.arrow")
    assert store.count_rows("t", BIGINT.hash) == 0
    assert store.read_records("t", BIGINT.hash) == [record]


# --- names


@pytest.mark.parametrize(
    "name",
    [
        'quo"te',
        "ünïcödé 表",
        "100% {} %s",
        "x" * 63,
        "x" * 200,
        "é" * 40,
        "select",
        "staging.t",
        " ",
        "nul\0nul",
        "xmin",
    ],
)
def test_awkward_names_of_tables_and_columns(store: PostgresStore, database: str, name: str) -> None:
    schema = make_schema(**{name: ColumnType("bigint"), "other": ColumnType("string")})
    table_name = name.replace("\0", "")
    data = pa.table({name: pa.array([7], pa.int64()), "other": ["a"]})
    stage(store, table_name, schema, data)
    assert store.publish(table_name, schema.hash, 1, 0)
    assert store.target_exists(table_name)
    assert store.published_load(table_name) == "load-1"
    [(published,)] = fetch(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(published.encode()) <= 63
    assert (published == table_name) == (len(table_name.encode()) <= 63)
    with psycopg.connect(database) as connection:
        row = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(published))).fetchone()
    assert row == (7, "a")


def test_long_names_that_begin_alike_stay_apart(store: PostgresStore, database: str) -> None:
    schema = make_schema(**{"x" * 70 + "1": ColumnType("bigint"), "x" * 70 + "2": ColumnType("bigint")})
    data = pa.table({name: pa.array([position], pa.int64()) for position, name in enumerate(schema.names)})
    for table in ("t" * 70 + "1", "t" * 70 + "2"):
        stage(store, table, schema, data)
        assert store.publish(table, schema.hash, 1, 0)
    tables = fetch(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(set(tables)) == 2
    assert fetch(database, f'SELECT * FROM "{tables[0][0]}"') == [(0, 1)]


def test_1500_columns(store: PostgresStore, database: str) -> None:
    schema = make_schema(**{f"column {i}": ColumnType("boolean") for i in range(1500)})
    data = pa.table({name: pa.array([True, None, False]) for name in schema.names})
    assert stage(store, "wide", schema, data).record.rows == 3
    assert store.publish("wide", schema.hash, 3, 0)
    assert sorted(fetch(database, "SELECT * FROM wide"), key=repr) == sorted(
        [(True,) * 1500, (None,) * 1500, (False,) * 1500], key=repr
    )


def test_more_columns_than_postgres_holds_is_refused_with_a_remedy(store: PostgresStore) -> None:
    schema = make_schema(**{f"c{i}": ColumnType("boolean") for i in range(1601)})
    with pytest.raises(PostgresConfigurationError, match="at most 1,600 columns"):
        store.create_staging("wide", schema)


# --- exactly once


def test_first_writer_wins_and_duplicates_change_nothing(store: PostgresStore) -> None:
    first = stage(store, "t", BIGINT, numbers(1, 2, 3))
    again = store.commit_chunk(make_chunk("t", BIGINT, 2), numbers(8, 9))
    assert again == first
    assert store.count_rows("t", BIGINT.hash) == 3
    assert store.read_record("t", BIGINT.hash, first.record.chunk_id) == first.record
    assert store.read_record("t", BIGINT.hash, "000000-00000000000009") is None


def test_chunks_are_kept_apart_by_load_table_and_schema(open_store: Callable[..., PostgresStore]) -> None:
    other_schema = make_schema(n=ColumnType("bigint"), m=ColumnType("bigint"))
    stores = [open_store(load_id="load-1"), open_store(load_id="load-2")]
    for number, opened in enumerate(stores):
        opened.prepare()
        stage(opened, "a", BIGINT, numbers(*range(number + 1)))
        stage(opened, "b", BIGINT, numbers(*range(number + 3)))
        stage(opened, "a", other_schema, pa.table({"n": pa.array([1], pa.int64()), "m": pa.array([1], pa.int64())}))
    for number, opened in enumerate(stores):
        assert opened.count_rows("a", BIGINT.hash) == number + 1
        assert opened.count_rows("b", BIGINT.hash) == number + 3
        assert opened.count_rows("a", other_schema.hash) == 1
        assert [record.rows for record in opened.read_records("b", BIGINT.hash)] == [number + 3]


def test_records_come_in_chunk_order(store: PostgresStore) -> None:
    for number in (5, 0, 12, 3):
        stage(store, "t", BIGINT, numbers(number), number)
    records = store.read_records("t", BIGINT.hash)
    assert [record.spans[0].start for record in records] == [0, 3, 5, 12]
    assert store.committed_chunks("t", BIGINT.hash) == {record.chunk_id for record in records}
    assert store.committed_chunks("other", BIGINT.hash) == set()


def test_same_chunk_from_eight_threads_at_once(open_store: Callable[..., PostgresStore]) -> None:
    store = open_store(max_connections=8)
    store.prepare()
    store.create_staging("t", BIGINT)
    together = threading.Barrier(8)

    def commit(thread: int) -> CommittedChunk:
        together.wait()
        return store.commit_chunk(make_chunk("t", BIGINT, 50_000), numbers(*[thread] * 50_000))

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(commit, range(8)))
    assert results == [results[0]] * 8
    assert store.count_rows("t", BIGINT.hash) == 50_000


def test_more_threads_than_connections(open_store: Callable[..., PostgresStore]) -> None:
    store = open_store(max_connections=2)
    store.prepare()
    store.create_staging("t", BIGINT)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: store.commit_chunk(make_chunk("t", BIGINT, 1, n), numbers(n)), range(40)))
    assert store.count_rows("t", BIGINT.hash) == 40
    assert len(store.committed_chunks("t", BIGINT.hash)) == 40


def test_preparing_and_staging_race_in_eight_stores(open_store: Callable[..., PostgresStore], database: str) -> None:
    stores = [open_store() for _ in range(8)]
    together = threading.Barrier(8)

    def begin(store: PostgresStore) -> None:
        together.wait()
        store.prepare()
        store.create_staging("t", BIGINT)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(begin, stores))
    assert fetch(database, "SELECT version FROM beam_etl.schema_version") == [(1,), (2,), (3,)]
    assert fetch(database, "SELECT load_id, target_schema FROM beam_etl.loads") == [("load-1", "public")]
    assert fetch(database, "SELECT count(*) FROM beam_etl.staging_tables") == [(1,)]


def test_backend_killed_in_the_middle_of_a_copy(store: PostgresStore, database: str) -> None:
    store.create_staging("t", BIGINT)
    [(staging,)] = fetch(database, "SELECT staging_name FROM beam_etl.staging_tables")
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE 'COPY%'"
    )
    with (
        psycopg.connect(database, autocommit=True) as watcher,
        psycopg.connect(database) as blocker,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        blocker.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier("beam_etl", staging)))
        landing = threads.submit(store.commit_chunk, make_chunk("t", BIGINT, 3), numbers(1, 2, 3))
        poll(lambda: watcher.execute(blocked).fetchone() is not None)
        assert watcher.execute(f"SELECT pg_terminate_backend(pid) FROM ({blocked}) AS b").fetchall() == [(True,)]
        poll(lambda: watcher.execute(blocked).fetchone() is not None)  # it came back and waits again
        blocker.rollback()
        assert landing.result(timeout=30).record.rows == 3
    assert store.count_rows("t", BIGINT.hash) == 3
    assert len(store.read_records("t", BIGINT.hash)) == 1


def test_idle_connections_killed_between_chunks(store: PostgresStore, database: str) -> None:
    stage(store, "t", BIGINT, numbers(1), 0)
    killed = fetch(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'beam_etl'",
    )
    assert killed == [(True,)]
    stage(store, "t", BIGINT, numbers(2), 1)
    assert store.count_rows("t", BIGINT.hash) == 2


def test_lost_answer_to_the_commit_of_a_chunk(
    store: PostgresStore, open_store: Callable[..., PostgresStore], proxy: CommitEatingProxy
) -> None:
    store.create_staging("t", BIGINT)
    far = open_store(proxy.dsn)
    assert far.committed_chunks("t", BIGINT.hash) == set()  # connected before the proxy turns nasty
    proxy.armed.set()
    record, _ = far.commit_chunk(make_chunk("t", BIGINT, 3), numbers(1, 2, 3))
    assert proxy.eaten == 1
    assert record.rows == 3
    assert store.count_rows("t", BIGINT.hash) == 3
    assert store.read_records("t", BIGINT.hash) == [record]


def test_lost_answer_to_the_commit_of_a_publication(
    store: PostgresStore, open_store: Callable[..., PostgresStore], proxy: CommitEatingProxy, database: str
) -> None:
    stage(store, "t", BIGINT, numbers(1, 2, 3))
    far = open_store(proxy.dsn)
    assert far.published_load("t") is None
    proxy.armed.set()
    assert far.publish("t", BIGINT.hash, 3, 0) is False  # replayed, and found it done
    assert proxy.eaten == 1
    assert store.published_load("t") == "load-1"
    assert fetch(database, "SELECT count(*) FROM t") == [(3,)]


def test_failure_before_the_commit_leaves_no_trace(store: PostgresStore) -> None:
    store.create_staging("t", BIGINT)
    wrong = pa.table({"n": pa.array([1, 2], pa.int32())})  # four bytes where PostgreSQL reads eight
    with pytest.raises(PostgresError, match="08P01"):
        store.commit_chunk(make_chunk("t", BIGINT, 2), wrong)
    assert store.read_records("t", BIGINT.hash) == []
    assert store.commit_chunk(make_chunk("t", BIGINT, 2), numbers(1, 2)).record.rows == 2
    assert store.count_rows("t", BIGINT.hash) == 2


def test_store_survives_pickling_and_reopening(store: PostgresStore) -> None:
    stage(store, "t", BIGINT, numbers(1, 2))
    copy = pickle.loads(pickle.dumps(store))
    with pytest.raises(RuntimeError, match="not open"):
        copy.count_rows("t", BIGINT.hash)
    copy.open()
    assert copy.count_rows("t", BIGINT.hash) == 2
    copy.close()
    copy.open()
    assert copy.count_rows("t", BIGINT.hash) == 2
    copy.close()
    copy.close()


# --- rows that PostgreSQL refuses


def test_rows_out_of_range_are_isolated_and_counted(store: PostgresStore, database: str) -> None:
    schema = make_schema(n=ColumnType("bigint"), price=ColumnType("decimal", 4, 2))
    prices = [Decimal("1.50")] * 1000
    for bad in (0, 500, 501, 999):
        prices[bad] = Decimal("100.00")
    data = pa.table({"n": pa.array(range(1000), pa.int64()), "price": pa.array(prices, pa.decimal128(18, 2))})
    store.create_staging("t", schema)
    chunk = make_chunk("t", schema, records=1002, rejects=2)
    committed = store.commit_chunk(chunk, data)
    record, row_errors = committed
    assert [(error.row, error.sqlstate) for error in row_errors] == [(row, "22003") for row in (0, 500, 501, 999)]
    assert row_errors[0].reason == "numeric field overflow"
    assert (record.rows, record.rejects) == (996, 6)
    assert record.records == record.rows + record.rejects
    assert store.commit_chunk(chunk, data) == committed
    assert store.read_records("t", schema.hash) == [record]
    assert fetch(database, "SELECT rows, rejects FROM beam_etl.chunk_ledger") == [(996, 6)]
    assert store.publish("t", schema.hash, 996, 6)
    assert fetch(database, "SELECT count(*), min(n), max(n) FROM t") == [(996, 1, 998)]


def test_the_documented_query_shows_refused_rows(store: PostgresStore, database: str) -> None:
    page = (Path(__file__).parents[1] / "docs/rejects.md").read_text()
    query = page[page.index("    SELECT table_name") :].split("\n\n")[0].replace("<load_id>", store.load_id)
    data = pa.table({"text": ["a", "b\0c", "d"]})
    record, row_errors = stage(store, "t", make_schema(text=ColumnType("string")), data)
    [refused] = row_errors
    assert fetch(database, query) == [("t", record.chunk_id, "1", "22021", refused.reason)]


def test_nul_character_is_isolated(store: PostgresStore) -> None:
    schema = make_schema(text=ColumnType("string"))
    record, row_errors = stage(store, "t", schema, pa.table({"text": ["a", "b\0c", "d"]}))
    assert [(error.row, error.sqlstate) for error in row_errors] == [(1, "22021")]
    assert (record.rows, record.rejects, store.count_rows("t", schema.hash)) == (2, 1, 2)


def test_row_too_wide_for_a_page_is_isolated(store: PostgresStore) -> None:
    schema = make_schema(**{f"c{i}": ColumnType("string") for i in range(1500)})
    data = pa.table({name: ["narrow" if name == "c0" else None, f"{name:>40}"] for name in schema.names})
    record, row_errors = stage(store, "t", schema, data)
    assert [(error.row, error.sqlstate) for error in row_errors] == [(1, "54000")]
    assert (record.rows, record.rejects) == (1, 1)


def test_every_row_refused(store: PostgresStore) -> None:
    schema = make_schema(text=ColumnType("string"))
    record, row_errors = stage(store, "t", schema, pa.table({"text": ["\0"] * 9}))
    assert [error.row for error in row_errors] == list(range(9))
    assert (record.rows, record.rejects, store.count_rows("t", schema.hash)) == (0, 9, 0)


# --- publishing


def test_publishing_replaces_the_table_and_says_who_did(
    open_store: Callable[..., PostgresStore], database: str
) -> None:
    first, second = open_store(load_id="load-1"), open_store(load_id="load-2")
    assert not fetch(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
    load(first, "t", 1, 2)
    assert (first.published_load("t"), first.target_exists("t")) == ("load-1", True)
    assert first.count_rows("t", BIGINT.hash) == 2
    load(second, "t", 7)
    assert first.published_load("t") == second.published_load("t") == "load-2"
    assert fetch(database, "SELECT n FROM t") == [(7,)]
    assert first.publish("t", BIGINT.hash, 2, 0) is False
    assert fetch(database, "SELECT n FROM t") == [(7,)]
    with pytest.raises(PublishRefusedError, match="replaced by a later load"):
        first.count_rows("t", BIGINT.hash)
    assert fetch(database, "SELECT load_id, rows, rejects FROM beam_etl.table_loads ORDER BY sequence") == [
        ("load-1", 2, 0),
        ("load-2", 1, 0),
    ]
    assert fetch(database, "SELECT count(*) FROM beam_etl.staging_tables") == [(0,)]


def append(store: PostgresStore, table: str, base: str, *values: int, schema: TableSchema = BIGINT) -> bool:
    store.prepare()
    data = pa.table({name: pa.array(values, pa.int64()) for name in schema.names})
    stage(store, table, schema, data)
    source = SourceFile(0, f"{store.load_id}.csv", "", table, 1, "1-1")
    return store.publish(table, schema.hash, len(values), 0, terms=PublishTerms("append", base, (source,)))


def test_appending_adds_the_rows_once(open_store: Callable[..., PostgresStore], database: str) -> None:
    first, second, third = (open_store(load_id=f"load-{number}") for number in (1, 2, 3))
    assert append(first, "t", "", 1, 2)
    oid = fetch(database, "SELECT 't'::regclass::oid")
    wider = make_schema(m=ColumnType("bigint"), n=ColumnType("bigint"))
    assert append(second, "t", "load-1", 7, schema=wider)
    assert append(second, "t", "load-1", 7, schema=wider) is False
    assert fetch(database, "SELECT n, m FROM t ORDER BY n") == [(1, None), (2, None), (7, 7)]
    assert fetch(database, "SELECT 't'::regclass::oid") == oid
    state = third.state("t")
    assert (state.loads, state.columns) == (("load-1", "load-2"), {"n": "bigint", "m": "bigint"})
    assert sorted(state.files.values()) == ["1-1", "1-1"]
    assert (first.count_rows("t", BIGINT.hash), second.count_rows("t", wider.hash)) == (2, 1)
    assert (first.loads_after("t"), second.loads_after("t")) == (["load-2"], [])
    assert fetch(database, "SELECT count(*) FROM beam_etl.staging_tables") == [(0,)]
    load(third, "t", 9)
    assert (third.state("t").loads, third.state("t").files) == (("load-3",), {})
    assert (first.has_published("t"), first.publish("t", BIGINT.hash, 2, 0)) == (True, False)


def test_appending_to_another_table_than_planned_is_refused(
    open_store: Callable[..., PostgresStore], database: str
) -> None:
    stores = [open_store(load_id=f"load-{number}") for number in range(6)]
    stores[0].prepare()
    for number, opened in enumerate(stores):
        stage(opened, "t", BIGINT, numbers(number))

    def attempt(store: PostgresStore) -> bool:
        try:
            return store.publish("t", BIGINT.hash, 1, 0, terms=PublishTerms("append", ""))
        except TableChangedError as error:
            assert "planned on no table, but now there is the table of load" in str(error)
            return False

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(attempt, stores))
    assert sorted(outcomes) == [False] * 5 + [True]
    assert fetch(database, "SELECT n FROM t") == [(outcomes.index(True),)]
    assert fetch(database, "SELECT count(*) FROM beam_etl.table_loads") == [(1,)]


def test_a_trigger_that_keeps_rows_back_refuses_the_load(
    open_store: Callable[..., PostgresStore], database: str
) -> None:
    append(open_store(load_id="load-1"), "t", "", 1)
    fetch(
        database,
        "CREATE FUNCTION keep_back() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.n > 5 THEN RETURN NULL; END IF; RETURN NEW; END'; "
        "CREATE TRIGGER back BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION keep_back()",
    )
    second = open_store(load_id="load-2")
    with pytest.raises(PublishRefusedError, match="took 1 of 2 rows; disable the trigger"):
        append(second, "t", "load-1", 3, 7)
    assert fetch(database, "SELECT n FROM t") == [(1,)]
    assert second.state("t").loads == ("load-1",)


def test_a_lost_answer_to_the_commit_of_an_append(
    open_store: Callable[..., PostgresStore], proxy: CommitEatingProxy, database: str
) -> None:
    append(open_store(load_id="load-1"), "t", "", 1)
    far = open_store(proxy.dsn, load_id="load-2")
    far.prepare()
    stage(far, "t", BIGINT, numbers(2))
    proxy.armed.set()
    assert far.publish("t", BIGINT.hash, 1, 0, terms=PublishTerms("append", "load-1")) is False
    assert proxy.eaten == 1
    assert fetch(database, "SELECT n FROM t ORDER BY n") == [(1,), (2,)]


def test_published_table_is_analysed_and_vacuumed_again(store: PostgresStore, database: str) -> None:
    load(store, "t", *range(100))
    facts = fetch(database, "SELECT reltuples, reloptions, relpersistence::text FROM pg_class WHERE relname = 't'")
    assert facts == [(100.0, None, "p")]


def test_publishing_twice_and_at_once_happens_once(open_store: Callable[..., PostgresStore], database: str) -> None:
    stores = [open_store() for _ in range(4)]
    stores[0].prepare()
    stage(stores[0], "t", BIGINT, numbers(1, 2))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda store: store.publish("t", BIGINT.hash, 2, 0), stores))
    assert sorted(results) == [False, False, False, True]
    assert fetch(database, "SELECT count(*) FROM t") == [(2,)]


def test_staging_again_after_publishing_makes_no_table(store: PostgresStore, database: str) -> None:
    load(store, "t", 1, 2)
    committed = stage(store, "t", BIGINT, numbers(1, 2))
    assert committed.record.rows == 2
    assert fetch(database, "SELECT tablename FROM pg_tables WHERE tablename ~ '^staging_t_'") == []
    assert store.count_rows("t", BIGINT.hash) == 2


def test_missing_rows_are_not_published(store: PostgresStore, database: str) -> None:
    load(store, "t", 1)
    later = PostgresStore(store.dsn_reference, "load-2")
    later.open()
    stage(later, "t", BIGINT, numbers(1, 2, 3))
    with pytest.raises(PublishRefusedError, match="holds 3 rows, its books say 4"):
        later.publish("t", BIGINT.hash, 4, 0)
    assert (later.published_load("t"), fetch(database, "SELECT n FROM t")) == ("load-1", [(1,)])
    assert later.publish("t", BIGINT.hash, 3, 0)
    later.close()


def test_target_with_dependent_view_is_refused_and_left_alone(
    open_store: Callable[..., PostgresStore], database: str
) -> None:
    load(open_store(load_id="load-1"), "t", 1)
    fetch(database, "CREATE VIEW report_of_t AS SELECT n FROM t")
    second = open_store(load_id="load-2")
    stage(second, "t", BIGINT, numbers(1, 2))
    with pytest.raises(PublishRefusedError, match="view report_of_t depends on table t"):
        second.publish("t", BIGINT.hash, 2, 0)
    assert fetch(database, "SELECT * FROM report_of_t") == [(1,)]
    assert second.published_load("t") == "load-1"
    fetch(database, "DROP VIEW report_of_t")
    assert second.publish("t", BIGINT.hash, 2, 0)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("CREATE VIEW t AS SELECT 1 AS n", "a view"),
        ("CREATE MATERIALIZED VIEW t AS SELECT 1 AS n", "a materialized view"),
        ("CREATE TABLE t (n bigint) PARTITION BY RANGE (n)", "a partitioned table"),
        ("CREATE TABLE p (n bigint) PARTITION BY RANGE (n); CREATE TABLE t PARTITION OF p DEFAULT", "a partition"),
        ("CREATE SEQUENCE t", "a sequence"),
    ],
)
def test_target_that_is_no_ordinary_table_is_refused(
    store: PostgresStore, database: str, statement: str, kind: str
) -> None:
    fetch(database, statement)
    stage(store, "t", BIGINT, numbers(1))
    with pytest.raises(PublishRefusedError, match=rf'"public"."t" is {kind}'):
        store.publish("t", BIGINT.hash, 1, 0)
    assert fetch(database, "SELECT count(*) FROM pg_class WHERE oid = 'public.t'::regclass") == [(1,)]


def test_locked_target_is_waited_for_but_not_for_ever(open_store: Callable[..., PostgresStore], database: str) -> None:
    load(open_store(load_id="load-1"), "t", 1)
    hasty = open_store(load_id="load-2", retry_seconds=0.0)
    stage(hasty, "t", BIGINT, numbers(1, 2))
    with psycopg.connect(database) as reader:
        reader.execute("SELECT * FROM t")
        with pytest.raises(PostgresUnavailableError, match="another session kept a lock"):
            hasty.publish("t", BIGINT.hash, 2, 0)
        assert hasty.published_load("t") == "load-1"
        patient = open_store(load_id="load-2")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DROP TABLE%'"
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            publishing = threads.submit(patient.publish, "t", BIGINT.hash, 2, 0)
            poll(lambda: bool(fetch(database, f"{waiting} AND wait_event_type = 'Lock'")))
            reader.rollback()
            assert publishing.result(timeout=30) is True
    assert fetch(database, "SELECT count(*) FROM t") == [(2,)]


def test_another_schema_of_a_published_table_is_refused(store: PostgresStore) -> None:
    load(store, "t", 1)
    wider = make_schema(n=ColumnType("double"))
    stage(store, "t", wider, pa.table({"n": [1.5]}))
    with pytest.raises(PublishRefusedError, match="has published table 't' with schema"):
        store.publish("t", wider.hash, 1, 0)


def test_target_in_another_schema_under_another_name(open_store: Callable[..., PostgresStore], database: str) -> None:
    fetch(database, 'CREATE SCHEMA "Lake %"')
    store = open_store(target_schema="Lake %")
    store.prepare()
    stage(store, "t", BIGINT, numbers(4))
    assert store.publish("t", BIGINT.hash, 1, 0, target_table="Other")
    assert fetch(database, 'SELECT n FROM "Lake %"."Other"') == [(4,)]
    assert (store.target_exists("t"), store.count_rows("t", BIGINT.hash)) == (True, 1)
    assert open_store().published_load("t") is None
    fetch(database, 'DROP TABLE "Lake %"."Other"')
    assert not store.target_exists("t")


def test_dropping_staging_forgets_what_was_not_published(store: PostgresStore, database: str) -> None:
    wider = make_schema(n=ColumnType("double"))
    stage(store, "t", wider, pa.table({"n": [1.5]}))
    load(store, "t", 1, 2)
    stage(store, "other", BIGINT, numbers(1))
    store.drop_staging("t")
    assert store.committed_chunks("t", wider.hash) == set()
    assert len(store.committed_chunks("t", BIGINT.hash)) == 1
    assert store.count_rows("other", BIGINT.hash) == 1
    store.drop_staging()
    store.drop_staging()
    left = fetch(
        database,
        "SELECT tablename FROM pg_tables WHERE schemaname = 'beam_etl' AND tablename LIKE 'staging!_%' ESCAPE '!'",
    )
    assert left == [("staging_tables",)]
    assert fetch(database, "SELECT count(*) FROM t") == [(2,)]
    with pytest.raises(PostgresConfigurationError, match="staging of this load dropped"):
        store.commit_chunk(make_chunk("other", BIGINT, 1), numbers(1))


# --- preflight, privileges and messages


def test_check_describes_the_server_and_changes_nothing(
    open_store: Callable[..., PostgresStore], database: str
) -> None:
    described = open_store().check()
    assert described.startswith("PostgreSQL 18")
    assert described.endswith(conninfo_to_dict(database)["dbname"])
    assert fetch(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'beam_etl'") == []


def test_unreachable_server(open_store: Callable[..., PostgresStore]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dsn = f"postgresql://me:hunter2@127.0.0.1:{port}/lake"
    with pytest.raises(
        PostgresUnavailableError, match=rf"127.0.0.1:{port}/lake is unreachable.*is the server up"
    ) as told:
        open_store(dsn).check()
    assert "hunter2" not in everything_said(told.value)


def test_wrong_database_is_told_without_the_password(open_store: Callable[..., PostgresStore], database: str) -> None:
    store = open_store(make_conninfo(database, dbname="nowhere", password="hunter2"))
    with pytest.raises(PostgresConfigurationError, match='database "nowhere" does not exist; check') as told:
        store.prepare()  # although it would retry for 30 s: this does not pass by itself
    assert "hunter2" not in everything_said(told.value)


@pytest.fixture
def role(database: str, postgres_dir: Any) -> Iterator[str]:
    """The name and password of a role that must give its password; it owns nothing."""
    hba = postgres_dir / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all loader scram-sha-256\n" + before)
    fetch(database, "CREATE ROLE loader LOGIN PASSWORD 'correct horse'")
    fetch(database, "SELECT pg_reload_conf()")
    poll(lambda: refuses_anonymous(database))
    yield make_conninfo(database, user="loader", password="correct horse")
    fetch(database, "DROP OWNED BY loader CASCADE")
    fetch(database, "DROP ROLE loader")
    hba.write_text(before)
    fetch(database, "SELECT pg_reload_conf()")


def refuses_anonymous(database: str) -> bool:
    try:
        psycopg.connect(make_conninfo(database, user="loader")).close()
    except psycopg.OperationalError:
        return True
    return False


def test_wrong_password_is_told_without_it(open_store: Callable[..., PostgresStore], role: str) -> None:
    for password in ("hunter2", None):
        parts = {**conninfo_to_dict(role), "password": password}
        with pytest.raises(PostgresConfigurationError, match="check user, password") as told:
            open_store(make_conninfo(**parts)).prepare()
        assert "hunter2" not in everything_said(told.value)


def test_role_with_few_privileges(open_store: Callable[..., PostgresStore], role: str, database: str) -> None:
    store = open_store(role)
    with pytest.raises(PostgresConfigurationError, match='GRANT CREATE, USAGE ON SCHEMA "public" TO "loader"'):
        store.check()
    fetch(database, "GRANT CREATE, USAGE ON SCHEMA public TO loader")
    for refused in (store.check, store.prepare):
        with pytest.raises(PostgresConfigurationError, match='CREATE SCHEMA beam_etl AUTHORIZATION "loader"'):
            refused()
    fetch(database, 'CREATE SCHEMA beam_etl AUTHORIZATION "loader"')
    store.check()
    load(store, "t", 1, 2)
    assert fetch(database, "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [("loader",)]
    fetch(database, "CREATE TABLE theirs (n bigint)")
    stage(store, "theirs", BIGINT, numbers(1))
    with pytest.raises(PostgresConfigurationError, match="must be owner of table theirs; grant the role"):
        store.publish("theirs", BIGINT.hash, 1, 0)


def test_too_many_connections_pass_by_themselves(
    store: PostgresStore, open_store: Callable[..., PostgresStore], role: str, database: str
) -> None:
    fetch(database, "ALTER ROLE loader CONNECTION LIMIT 1")
    occupant = psycopg.connect(role)
    busy = open_store(role)
    with pytest.raises(PostgresUnavailableError, match="too many connections"):
        busy.check()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        fetch(
            database,
            "GRANT USAGE ON SCHEMA beam_etl TO loader; GRANT SELECT ON ALL TABLES IN SCHEMA beam_etl TO loader",
        )
        reading = threads.submit(busy.published_load, "t")
        occupant.close()
        assert reading.result(timeout=30) is None


def test_missing_target_schema_and_unsuitable_encoding(open_store: Callable[..., PostgresStore], database: str) -> None:
    with pytest.raises(PostgresConfigurationError, match='CREATE SCHEMA "lake"'):
        open_store(target_schema="lake").check()
    fetch(database, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(PostgresConfigurationError, match="encoded as LATIN1"):
            open_store(make_conninfo(database, dbname="latin")).check()
    finally:
        fetch(database, "DROP DATABASE latin WITH (FORCE)")


def test_read_only_server_is_refused(open_store: Callable[..., PostgresStore], database: str) -> None:
    read_only = make_conninfo(database, options="-c default_transaction_read_only=on")
    with pytest.raises(PostgresConfigurationError, match="connect to the primary"):
        open_store(read_only).check()


def test_audit_schema_of_a_newer_version_is_left_alone(store: PostgresStore, database: str) -> None:
    fetch(database, "INSERT INTO beam_etl.schema_version (version) VALUES (99)")
    with pytest.raises(PostgresConfigurationError, match="has version 99"):
        store.prepare()


def test_audit_schema_is_no_target() -> None:
    with pytest.raises(ValueError, match="name another schema"):
        PostgresStore("env:PG", "load-1", target_schema="beam_etl")
