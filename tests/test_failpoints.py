"""Failpoints act where and when they are told, in the program's own places, and are nothing otherwise."""

import os
import re
import signal
import subprocess
import sys
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from beam_etl import failpoints
from beam_etl.failpoints import FAILPOINTS, FailpointError, can_lose, parse_rules
from beam_etl.model import Chunk, ConvertedChunk, SpanCount
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema

REPOSITORY = Path(__file__).parents[1]
SCHEMA = TableSchema((ColumnSchema("n", ColumnType("bigint")),))
TABLE = pa.table({"n": [1, 2, 3]}, schema=SCHEMA.arrow)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def chunk(number: int = 0) -> ConvertedChunk:
    span = SpanCount(file_id=0, start=number, end=number + 1, records=3, rejects=0, rejected_bytes=0, lines=3)
    return ConvertedChunk(Chunk("t", f"{number:06d}", ()), SCHEMA.hash, (span,))


def run_python(code: str, rules: str | None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != failpoints.VARIABLE}
    environment |= {"PYTHONPATH": str(REPOSITORY)} | ({} if rules is None else {failpoints.VARIABLE: rules})
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_without_the_variable_hitting_is_an_empty_function():
    assert failpoints.hit.__name__ == "_hit_nothing"
    seconds = min(timeit.repeat(lambda: failpoints.hit("load.planned"), number=100_000, repeat=5))
    assert seconds / 100_000 < 2e-6  # a chunk of a megabyte passes about ten: nothing beside its milliseconds


@pytest.mark.parametrize(
    ("rules", "code"),
    [("load.planned=kill", -signal.SIGKILL), ("load.planned=kill@2", 0), ("load.planned=raise", 1), (None, 0)],
)
def test_the_variable_arms_a_process_when_it_starts(rules, code):
    done = run_python("from beam_etl import failpoints; failpoints.hit('load.planned'); print('alive')", rules)
    assert (done.returncode, done.stdout) == (code, "alive\n" if code == 0 else "")


def test_a_wrong_variable_is_refused_when_the_process_starts():
    done = run_python("from beam_etl import failpoints", "load.plannd=kill")
    assert done.returncode == 1
    assert "there is no failpoint 'load.plannd'" in done.stderr


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("load.planned", "is not <failpoint>="),
        ("load.planned=explode", "is not <failpoint>="),
        ("load.planned=kill@0", "is not <failpoint>="),
        ("load.planned=sleep", "needs seconds"),
        ("load.planned=kill:3", "needs seconds"),
        ("load.planned=lose", "nothing retries there"),
    ],
)
def test_a_wrong_rule_is_refused(rules, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_rules(rules)


def test_an_action_happens_at_its_hit_alone_and_each_failpoint_counts_for_itself():
    failpoints.arm("load.planned=raise@2; load.before_report=raise@1")
    failpoints.hit("load.planned")
    with pytest.raises(FailpointError, match=r"load\.planned"):
        failpoints.hit("load.planned")
    failpoints.hit("load.planned")
    with pytest.raises(FailpointError, match=r"load\.before_report"):
        failpoints.hit("load.before_report")


def test_one_of_many_threads_meets_the_action():
    def hit(_: int) -> int:
        try:
            failpoints.hit("parquet.recorded")
        except FailpointError:
            return 1
        return 0

    failpoints.arm("parquet.recorded=raise@50")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(hit, range(100))) == 1


def test_every_failpoint_is_in_the_code_once_and_no_other_is():
    found = [
        name
        for path in sorted((REPOSITORY / "beam_etl").rglob("*.py"))
        for name in re.findall(r'failpoints\.hit\("([\w.]+)"\)', path.read_text())
    ]
    assert sorted(found) == sorted(FAILPOINTS)


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    store = PostgresStore(database, "load-1", retry_seconds=30)
    store.open()
    store.prepare()
    store.create_staging("t", SCHEMA)
    yield store
    store.close()


def rows(store: PostgresStore) -> tuple[int, int]:
    """Rows in staging and in the ledger."""
    with psycopg.connect(store.dsn_reference) as connection:
        [ledger] = connection.execute("SELECT count(*) FROM beam_etl.chunk_ledger").fetchone() or (None,)
    return store.count_rows("t", SCHEMA.hash), ledger


@pytest.mark.parametrize(
    ("name", "committed"),
    [
        ("postgres.before_ledger", False),
        ("postgres.after_ledger", False),
        ("postgres.mid_copy", False),
        ("postgres.before_commit", False),
        ("postgres.after_commit", True),
    ],
)
def test_a_chunk_in_postgres_is_whole_or_absent_wherever_it_fails(name, committed, store):
    failpoints.arm(f"{name}=raise")
    with pytest.raises(FailpointError):
        store.commit_chunk(chunk(), TABLE)
    failpoints.arm("")
    assert rows(store) == ((3, 1) if committed else (0, 0))
    assert store.commit_chunk(chunk(), TABLE).record.rows == 3
    assert rows(store) == (3, 1)


@pytest.mark.parametrize("name", [name for name in FAILPOINTS if name.startswith("postgres.") and can_lose(name)])
def test_a_lost_answer_of_postgres_is_asked_for_again(name, store):
    failpoints.arm(f"{name}=lose")
    assert store.commit_chunk(chunk(), TABLE).record.rows == 3
    failpoints.arm("")
    assert rows(store) == (3, 1)


def test_a_publish_that_fails_after_the_swap_is_undone_and_repeated(store, database):
    store.commit_chunk(chunk(), TABLE)
    failpoints.arm("publish.swapped=raise")
    with pytest.raises(FailpointError):
        store.publish("t", SCHEMA.hash, 3, 0)
    assert not store.target_exists("t")
    assert store.publish("t", SCHEMA.hash, 3, 0)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchone() == ([1, 2, 3],)


@pytest.mark.parametrize(
    "rules",
    ["parquet.file_closed=raise", "parquet.recorded=raise", "storage.after_create=lose", "storage.mid_move=lose@2"],
)
def test_a_table_in_parquet_is_exact_wherever_its_commit_fails(rules, tmp_path):
    output = ParquetStore(str(tmp_path), "load-1")
    failpoints.arm(rules)
    for number in range(3):
        for _ in range(2):
            try:
                output.commit_chunk(chunk(number), TABLE)
            except FailpointError:
                continue
    output.publish("t", SCHEMA, output.read_records("t", SCHEMA.hash), {})
    manifest = output.current_manifest("t")
    assert [file["rows"] for file in manifest["files"]] == [3, 3, 3]
    assert {path.name for path in (tmp_path / "t").iterdir()} == {file["name"] for file in manifest["files"]} | {
        "_SUCCESS"
    }


@pytest.mark.parametrize(
    "name",
    [
        "publish.before_moves",
        "storage.mid_move",
        "publish.before_manifest",
        "publish.after_manifest",
        "publish.after_success",
    ],
)
def test_a_publish_in_parquet_that_fails_is_completed_by_the_next(name, tmp_path):
    output = ParquetStore(str(tmp_path), "load-1")
    records = [output.commit_chunk(chunk(number), TABLE) for number in range(3)]
    failpoints.arm(f"{name}=raise")
    with pytest.raises(FailpointError):
        output.publish("t", SCHEMA, records, {})
    finished = name in ("publish.after_success",)
    assert (output.published_load("t") == "load-1") == finished
    output.publish("t", SCHEMA, records, {})
    assert output.published_load("t") == "load-1"
    assert not list((tmp_path / "_beam_etl").rglob("*.intent"))
