"""SIGTERM and Ctrl-C, at any moment: the process is gone within a second, and so is all but resumable staging."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from beam_etl.exit_codes import FAILED, PUBLISHED
from beam_etl.storage import _TEMPORARY_SUFFIX
from tests.landed import parquet_table, run
from tests.processes import REPOSITORY, Program, poll

RECORDS = 300_000
LEASES = "SELECT count(*) FROM beam_etl.leases WHERE (holder->>'pid')::int = {}"
INTERRUPTED = "beam_etl: interrupted; run the same command again to resume\n"
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'beam_etl'"
)


class Interrupted:
    """A load of a file of many chunks, interrupted again and again."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory, self.lake, self.dsn = directory, directory / "lake", dsn
        source = directory / "t.csv"
        source.write_text("id,text\n" + "".join(f'{n},"text, {n % 97}\n"\n' for n in range(RECORDS)))
        self.arguments = [f"--input={source}", f"--output={self.lake}", f"--postgres={dsn}", "--chunk_mb=1"]
        self.seconds: list[float] = []

    def interrupt(self, number: signal.Signals, at: str = "postgres.mid_copy", seconds: float = 0.0) -> None:
        """Starts the load, interrupts it some time after it holds its lease, and looks for what it left.

        Args:
          at: the failpoint that the load does not get past.
        """
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BEAM_ETL_FAILPOINTS": f"{at}=sleep:60"}
        log = self.directory / f"{len(self.seconds)}.log"
        program = Program([sys.executable, "-m", "beam_etl", *self.arguments], environment, log)
        try:
            poll("a lease", lambda: self.fetch(LEASES.format(program.pid)) > 0, seconds=120)
            if at == "publish.before_moves":
                poll("PostgreSQL's table", lambda: self.fetch("SELECT count(to_regclass('t'))") > 0, seconds=120)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(seconds)
            begun = time.monotonic()
            os.kill(program.pid, number)
            assert program.wait(30) == FAILED, log.read_text()
            self.seconds.append(time.monotonic() - begun)
        finally:
            program.kill()
        assert log.read_text() == INTERRUPTED
        assert not list(self.lake.rglob(f"*{_TEMPORARY_SUFFIX}"))
        poll("closed connections", lambda: self.fetch(CONNECTIONS) == 0, seconds=30)
        assert self.fetch("SELECT count(*) FROM beam_etl.leases") == 0

    def fetch(self, statement: str) -> int:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            try:
                return connection.execute(statement).fetchone()[0]
            except psycopg.errors.UndefinedTable:
                return 0  # the load has not made the audit schema yet

    def assert_resumed(self) -> None:
        done = run(*self.arguments)
        assert done.code == PUBLISHED, done.err
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute("SELECT count(*), count(DISTINCT id), sum(id) FROM t").fetchone()
        assert found == (RECORDS, RECORDS, sum(range(RECORDS)))
        assert parquet_table(self.lake, "t").num_rows == RECORDS
        assert not any(self.lake.glob("_beam_etl/staging/*"))


@pytest.fixture
def load(tmp_path, database):
    return Interrupted(tmp_path, database)


def test_an_interrupted_load_ends_within_a_second_and_is_resumed(load):
    load.interrupt(signal.SIGTERM, seconds=1.0)
    load.interrupt(signal.SIGINT)
    load.assert_resumed()
    assert min(load.seconds) < 1.0, load.seconds


@pytest.mark.slow
def test_many_interruptions_leave_nothing(load, capsys):
    rng = random.Random(1)
    for turn in range(20):
        load.interrupt((signal.SIGTERM, signal.SIGINT)[turn % 2], seconds=rng.uniform(0, 2))
    load.interrupt(signal.SIGTERM, "publish.before_moves")
    load.assert_resumed()
    seconds = sorted(load.seconds)
    median = seconds[len(seconds) // 2]
    with capsys.disabled():
        sys.stdout.write(
            f"{len(seconds)} interruptions, gone after {median:.2f} s (median), {seconds[-1]:.2f} s (most)\n"
        )
    assert median < 1.0, seconds
