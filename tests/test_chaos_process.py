"""Loads in processes of their own end as they were told, killed, stopped or not, and none outlives its runner."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pyarrow as pa
import pytest

from beam_etl import failpoints
from beam_etl.chaos.process import KILLED, Faults, LoadRunner, commit_chunks_twice
from beam_etl.model import Chunk, ConvertedChunk, SpanCount
from beam_etl.parquet.staging import ParquetStaging
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema

SCHEMA = TableSchema((ColumnSchema("n", ColumnType("bigint")),))
TABLE = pa.table({"n": [1, 2, 3]}, schema=SCHEMA.arrow)


def loader(arguments):
    """Stands for a load: says its pid, passes a failpoint, and waits or returns the exit code it is given."""
    sys.stdout.write(f"pid {os.getpid()}\n")
    sys.stdout.flush()
    failpoints.hit("load.planned")
    [what] = arguments
    if what == "wait":
        threading.Event().wait(300)
    return int(what)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[LoadRunner]:
    with LoadRunner(loader, tmp_path / "logs", "beam_etl.failpoints") as runner:
        yield runner


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def test_a_load_ends_with_its_exit_code_and_leaves_a_log(runner):
    loads = [runner.start(["0"]), runner.start(["3"])]
    assert [load.wait(60) for load in loads] == [0, 3]
    assert not loads[0].is_running()
    assert not loads[0].kill(), "it had ended before"
    assert "pid " in loads[1].log.read_text()


def test_a_running_load_is_stopped_continued_and_killed(runner):
    load = runner.start(["wait"])
    wait_until(lambda: "pid " in load.log.read_text() if load.log.exists() else False)
    assert load.signal(signal.SIGSTOP)
    wait_until(load.is_stopped)
    assert load.wait(0.05) is None
    assert load.signal(signal.SIGCONT)
    wait_until(lambda: not load.is_stopped())
    assert load.kill()
    assert load.wait(0) == KILLED
    assert not load.signal(signal.SIGCONT)


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_faults_are_armed_in_the_load_alone(action, runner):
    load = runner.start(["0"], Faults(f"load.planned={action}"))
    if action == "stop":
        wait_until(load.is_stopped)
        load.signal(signal.SIGCONT)
    assert load.wait(60) == (KILLED if action == "kill" else 0)
    assert runner.start(["0"]).wait(60) == 0
    assert failpoints.hit.__name__ == "_hit_nothing"


def test_no_load_outlives_its_runner(tmp_path):
    with LoadRunner(loader, tmp_path / "logs", "beam_etl.failpoints") as runner:
        loads = [runner.start(["wait"]) for _ in range(2)]
        loads[0].signal(signal.SIGSTOP)
        pids = [load._pid for load in loads]
    assert not any(load.is_running() for load in loads)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_chunks_committed_twice_at_once_are_there_once(tmp_path, database, monkeypatch):
    attempts = []

    def counted(commit):
        def run(*arguments):
            attempts.append(threading.get_ident())
            return commit(*arguments)

        return run

    for store in (ParquetStaging, PostgresStore):
        monkeypatch.setattr(store, "commit_chunk", counted(store.commit_chunk))
    commit_chunks_twice(1.0, seed=5)
    span = SpanCount(file_id=0, start=0, end=1, records=3, rejects=0, rejected_bytes=0, lines=3)
    chunk = ConvertedChunk(Chunk("t", "000000", ()), SCHEMA.hash, (span,))
    postgres, parquet = PostgresStore(database, "load-1"), ParquetStore(str(tmp_path), "load-1")
    postgres.open()
    postgres.prepare()
    postgres.create_staging("t", SCHEMA)
    assert postgres.commit_chunk(chunk, TABLE).record.rows == 3
    assert postgres.count_rows("t", SCHEMA.hash) == 3
    postgres.close()
    record = parquet.commit_chunk(chunk, TABLE)
    assert [path.name for path in tmp_path.rglob("*.parquet")] == [Path(record.file).name]
    assert len(attempts) == 4
    assert len(set(attempts)) >= 2
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM beam_etl.chunk_ledger").fetchone() == (1,)
