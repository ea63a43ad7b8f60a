"""Each class of PostgreSQL's errors, brought about in a real server, and what becomes of the transaction."""

import concurrent.futures
import threading

import psycopg
import pyarrow as pa
import pytest

from beam_etl.model import Chunk, ConvertedChunk, Dialect, InspectedFile, SourceFile, Span, SpanCount
from beam_etl.postgres.errors import PostgresConfigurationError, PostgresUnavailableError
from beam_etl.postgres.limits import PostgresLimits
from beam_etl.postgres.session import PostgresSession
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema
from tests.dropping_proxy import DroppingProxy
from tests.processes import poll

ROWS = 60_000
SCHEMA = TableSchema((ColumnSchema("n", ColumnType("bigint")), ColumnSchema("text", ColumnType("string"))))


def chunk(rows, number=0):
    source = SourceFile(0, "in.csv", "", "t", 1000, "1000-1")
    file = InspectedFile(source, "in.csv", 1000, "1000-1", Dialect(), 0, SCHEMA.names)
    counts = (SpanCount(0, number, number + 1, rows, 0, 0, rows),)
    return ConvertedChunk(Chunk("t", f"{number:06d}", (Span(file, number, number + 1),)), SCHEMA.hash, counts, "")


def table(rows, bad=()):
    """Rows of which some hold a NUL character, which PostgreSQL refuses (class 22)."""
    wrong = frozenset(bad)
    return pa.table(
        {"n": pa.array(range(rows), pa.int64()), "text": ["\0" if n in wrong else "x" for n in range(rows)]}
    )


def session(dsn, **limits):
    return PostgresSession(dsn, PostgresLimits(**{"retry_seconds": 30.0, **limits}))


@pytest.fixture
def store(database):
    made = PostgresStore(database, "load-1", limits=PostgresLimits(retry_seconds=30.0))
    made.open()
    made.prepare()
    made.create_staging("t", SCHEMA)
    yield made
    made.close()


@pytest.fixture
def proxy(database):
    relay = DroppingProxy(database)
    yield relay
    relay.close()


@pytest.mark.parametrize(
    "moments", [["mid_copy"], ["before_commit"], ["after_commit"], ["mid_copy", "before_commit", "after_commit"]]
)
def test_class_08_a_line_that_is_cut_is_dialled_again_and_the_chunk_lands_once(moments, store, proxy):
    far = PostgresStore(proxy.dsn, "load-1", limits=PostgresLimits(retry_seconds=30.0))
    far.open()
    proxy.cuts = list(moments)
    record, refused = far.commit_chunk(chunk(ROWS), table(ROWS))
    far.close()
    assert (sorted(proxy.done), record.rows, refused) == (sorted(moments), ROWS, [])
    assert store.count_rows("t", SCHEMA.hash) == ROWS
    assert store.read_records("t", SCHEMA.hash) == [record]


@pytest.mark.parametrize("bad", [[0], [ROWS - 1], [7, 8, 9, 30_000], range(0, ROWS, 6_000), []])
def test_class_22_the_rows_at_fault_are_left_out_and_no_other(bad, store):
    record, refused = store.commit_chunk(chunk(ROWS), table(ROWS, bad))
    assert [error.row for error in refused] == list(bad)
    assert {error.sqlstate for error in refused} <= {"22021"}
    assert (record.rows, record.rejects) == (ROWS - len(bad), len(bad))
    assert store.count_rows("t", SCHEMA.hash) == ROWS - len(bad)


def test_class_22_a_few_statements_find_a_row(store, monkeypatch):
    sent = []
    import beam_etl.postgres.copy as module

    original = module._copy
    monkeypatch.setattr(module, "_copy", lambda *a: (sent.append(a[2].num_rows), original(*a))[1])
    store.commit_chunk(chunk(ROWS), table(ROWS, [40_000]))
    assert sent == [ROWS, 40_000, 1, ROWS - 40_001]


def test_class_54_a_row_too_wide_among_good_ones_is_left_out(database):
    wide = TableSchema(tuple(ColumnSchema(f"c{n}", ColumnType("string")) for n in range(1500)))
    store = PostgresStore(database, "load-1")
    store.open()
    store.prepare()
    store.create_staging("t", wide)
    # 1500 values of 20 letters need more than a page, and none is long enough to be stored elsewhere.
    rows = pa.table({name: ["x" * 20 if n == 3 else None for n in range(40)] for name in wide.names})
    source = SourceFile(0, "in.csv", "", "t", 1000, "1000-1")
    file = InspectedFile(source, "in.csv", 1000, "1000-1", Dialect(), 0, wide.names)
    wide_chunk = ConvertedChunk(
        Chunk("t", "000000", (Span(file, 0, 1),)), wide.hash, (SpanCount(0, 0, 1, 40, 0, 0, 40),), ""
    )
    record, refused = store.commit_chunk(wide_chunk, rows)
    store.close()
    assert [(error.row, error.sqlstate) for error in refused] == [(3, "54000")]
    assert (record.rows, record.rejects) == (39, 1)


def test_class_40_a_deadlock_is_one_transaction_after_the_other(database):
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE d (id int PRIMARY KEY, n int); INSERT INTO d VALUES (1, 0), (2, 0)")
        both, own = threading.Barrier(2), session(database, connections=2)
        tries = []

        def work(order):
            first_time = [True]

            def update(connection):
                tries.append(order)
                for place, key in enumerate(order):
                    connection.execute("SET LOCAL deadlock_timeout = '50ms'")
                    connection.execute("UPDATE d SET n = n + 1 WHERE id = %s", [key])
                    if place == 0 and first_time[0]:
                        first_time[0] = False
                        both.wait(timeout=30)

            own.run(update)

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(work, order) for order in ((1, 2), (2, 1))]:
                done.result(timeout=60)
        own.close()
        assert admin.execute("SELECT n FROM d ORDER BY id").fetchall() == [(2,), (2,)]
    assert len(tries) > 2, "there was a deadlock"


def test_class_40_a_serialization_failure_is_tried_again(database):
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE s (n int); INSERT INTO s VALUES (0)")
        own, tries = session(database), []

        def work(connection):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            [(before,)] = connection.execute("SELECT n FROM s").fetchall()
            tries.append(before)
            if len(tries) == 1:
                admin.execute("UPDATE s SET n = 10")
            connection.execute("UPDATE s SET n = %s", [before + 1])

        own.run(work)
        own.close()
        assert tries == [0, 10]
        assert admin.execute("SELECT n FROM s").fetchall() == [(11,)]


def test_class_53_is_waited_out_with_fewer_transactions_at_once(database):
    own, tries = session(database, connections=4), []

    def work(connection):
        tries.append(own.slots.allowed)
        if len(tries) < 3:
            # More than the server gives a query for temporary files: 53400, as a full disk is 53100.
            connection.execute("SET LOCAL temp_file_limit = '64kB'; SET LOCAL work_mem = '64kB'")
            connection.execute("SELECT count(*) FROM (SELECT g FROM generate_series(1, 100000) g ORDER BY -g) s")
        return "done"

    assert own.run(work) == "done"
    assert tries == [4, 2, 1]
    for _ in range(40):
        own.run(lambda connection: None)
    assert own.slots.allowed == 4
    own.close()


def test_class_57_a_terminated_backend_is_replaced(database):
    own, tries = session(database), []

    def work(connection):
        tries.append(connection.info.backend_pid)
        if len(tries) == 1:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return "done"

    assert own.run(work) == "done"
    own.close()
    assert len(set(tries)) == 2


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT * FROM nowhere", "refused: relation .nowhere. does not exist"),  # 42
        ("CREATE TABLE nowhere.t (n int)", "refused: schema .nowhere. does not exist"),  # 3F
    ],
)
def test_class_42_and_3f_need_a_person_and_are_not_repeated(statement, message, database):
    own, tries = session(database), []

    def work(connection):
        tries.append(statement)
        connection.execute(statement)

    with pytest.raises(PostgresConfigurationError, match=message):
        own.run(work)
    own.close()
    assert len(tries) == 1


def test_a_statement_that_takes_too_long_is_told_with_the_knob(database):
    own = session(database, statement_seconds=0.05, retry_seconds=0.0)
    with pytest.raises(PostgresUnavailableError, match=r"statement timeout.*--postgres_statement_seconds"):
        own.run(lambda connection: connection.execute("SELECT pg_sleep(60)"))
    own.close()


def test_a_stuck_worker_loses_its_transaction_and_starts_again(database):
    own, tries = session(database, idle_in_transaction_seconds=0.1), []

    def work(connection):
        tries.append(connection.info.backend_pid)
        if len(tries) == 1:
            with psycopg.connect(database, autocommit=True) as admin:
                gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
                poll("the end of a session", lambda: admin.execute(gone, [tries[0]]).fetchone() == (0,), seconds=30)
        return connection.execute("SELECT 1").fetchone()

    assert own.run(work) == (1,)
    own.close()
    assert len(tries) == 2


def test_a_lock_is_waited_for_as_long_as_was_allowed(database):
    own, waits = session(database, lock_seconds=0.05), []
    with psycopg.connect(database) as blocker:
        blocker.execute("CREATE TABLE l (n int)")
        blocker.commit()
        blocker.execute("LOCK TABLE l")

        def work(connection):
            waits.append(1)
            if len(waits) == 3:
                blocker.rollback()
            connection.execute("INSERT INTO l VALUES (1)")

        own.run(work)
    own.close()
    assert len(waits) == 3


def test_a_process_has_one_session_for_all_stores(database):
    stores = [PostgresStore(database, f"load-{n}", limits=PostgresLimits(connections=2)) for n in range(6)]
    for store in stores:
        store.open()
    stores[0].prepare()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda store: store.prepare(), stores))
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'beam_etl'"
    with psycopg.connect(database, autocommit=True) as admin:
        assert admin.execute(count).fetchone()[0] <= 2
        for store in stores:
            store.close()
        poll("closed connections", lambda: admin.execute(count).fetchone() == (0,), seconds=30)


@pytest.mark.parametrize("wanted", [200, 99])
def test_more_connections_than_the_server_has_are_refused_before_anything_moves(wanted, database):
    with psycopg.connect(database) as admin:
        [(most,)] = admin.execute("SELECT current_setting('max_connections')::int").fetchall()
    store = PostgresStore(database, "", limits=PostgresLimits(connections=wanted))
    if wanted + 1 <= most:
        assert store.check()
        return
    message = f"server allows {most} connections.* needs {wanted + 1} .*lower --postgres_connections to {most - 1}"
    with pytest.raises(PostgresConfigurationError, match=message):
        store.check()
