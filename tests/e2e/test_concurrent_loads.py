"""Loads that crash between the sinks, follow each other, or run at once: nothing is lost, doubled or mixed up."""

import os
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from beam_etl.exit_codes import FAILED, PUBLISHED
from beam_etl.loads import publication
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from tests.crashing_storage import Crash
from tests.landed import parquet_rows, postgres_rows, run, staging_tables
from tests.processes import REPOSITORY, Program


class Files:
    """A lake and a database, and files a, b, c, ... of one record each."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory, self.lake, self.dsn = directory, directory / "lake", dsn
        for number, name in enumerate("abcdef"):
            (directory / f"{name}.csv").write_text(f"id,text\n{number},{name}\n")

    def arguments(self, names: str, mode: str) -> list[str]:
        inputs = [f"--input={self.directory / name}.csv" for name in names]
        return [*inputs, f"--mode={mode}", "--table=t", f"--output={self.lake}", f"--postgres={self.dsn}"]

    def load(self, names: str, mode: str = "append", *more: str):
        return run(*self.arguments(names, mode), *more)

    def start(self, names: str, mode: str = "append") -> Program:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "beam_etl", *self.arguments(names, mode)]
        return Program(command, environment, self.directory / f"{names}.log")

    def texts(self) -> str:
        """What both sinks hold."""
        rows = parquet_rows(self.lake, "t")
        assert postgres_rows(self.dsn, "t") == rows
        return "".join(sorted(text for _, text in rows))

    def assert_tidy(self) -> None:
        assert not any(self.lake.glob("_beam_etl/staging/*"))
        assert staging_tables(self.dsn) == set()
        with psycopg.connect(self.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM beam_etl.leases").fetchone() == (0,)
            files = connection.execute("SELECT count(*), count(DISTINCT uri) FROM beam_etl.table_files").fetchone()
        assert files == (len(self.texts()),) * 2


@pytest.fixture
def files(tmp_path, database):
    return Files(tmp_path, database)


@pytest.fixture
def crash(monkeypatch):
    """Lets the next run die before or after a step of publishing."""

    def arrange(owner, step, after):
        original = getattr(owner, step)

        def crashing(*arguments, **named):
            monkeypatch.setattr(owner, step, original)
            if after:
                original(*arguments, **named)
            raise Crash

        monkeypatch.setattr(owner, step, crashing)

    return arrange


STEPS = [
    (publication, "_write_intent", False),
    (PostgresStore, "publish", False),
    (PostgresStore, "publish", True),
    (ParquetStore, "_move_files", True),
    (ParquetStore, "_create_manifest", True),
    (ParquetStore, "publish", True),
]
NAMES = [f"{'after' if after else 'before'} {step}" for _, step, after in STEPS]


def die(files, names, mode):
    """The run must not end well; on this runner the crash of a worker's thread is the run's."""
    done = files.load(names, mode, "--direct_num_workers=1", "--direct_running_mode=in_memory")
    assert done.code == FAILED, done.out + done.err


@pytest.fixture
def as_exception(monkeypatch):
    """In the thread of a runner a kill is an error of the runner."""
    monkeypatch.setattr("tests.e2e.test_concurrent_loads.Crash", RuntimeError)


@pytest.mark.usefixtures("as_exception")
@pytest.mark.parametrize(("owner", "step", "after"), STEPS, ids=NAMES)
def test_an_append_that_died_at_any_step_is_completed_by_the_same_command(files, crash, owner, step, after):
    assert files.load("a").code == PUBLISHED
    crash(owner, step, after)
    die(files, "ab", "append")
    done = files.load("ab")
    assert done.code == PUBLISHED, done.out + done.err
    assert files.texts() == "ab"
    assert len(list(files.lake.glob("_beam_etl/loads/*"))) == 2, "the same load went on"
    files.assert_tidy()
    assert "Already loaded" in files.load("ab").out


@pytest.mark.slow
@pytest.mark.usefixtures("as_exception")
@pytest.mark.parametrize(("owner", "step", "after"), STEPS, ids=NAMES)
def test_an_append_that_died_at_any_step_is_followed_by_another(files, crash, owner, step, after):
    assert files.load("a").code == PUBLISHED
    crash(owner, step, after)
    die(files, "b", "append")
    committed = (owner, step, after) not in STEPS[:2]
    done = files.load("c")
    assert done.code == PUBLISHED, done.out + done.err
    assert files.texts() == ("abc" if committed else "ac"), "what PostgreSQL has, Parquet gets first"
    done = files.load("b")
    assert done.code == PUBLISHED, done.out + done.err
    assert files.texts() == "abc"
    assert "Already loaded" in files.load("abc").out


@pytest.mark.usefixtures("as_exception")
def test_a_replace_that_died_between_the_sinks_is_rolled_forward_by_whoever_comes(files, crash):
    assert files.load("ab", "replace").code == PUBLISHED
    crash(PostgresStore, "publish", True)
    die(files, "c", "replace")
    assert files.load("d").code == PUBLISHED
    assert files.texts() == "cd"


def test_two_loads_of_one_table_at_once_are_one_after_the_other(files):
    assert files.load("a").code == PUBLISHED
    programs = [files.start("ab"), files.start("acd"), files.start("e")]
    for program in programs:
        program._process.wait(timeout=280)
    logs = [program.log.read_text() for program in programs]
    assert [program._process.returncode for program in programs] == [PUBLISHED] * 3, logs
    assert files.texts() == "abcde"
    files.assert_tidy()


def test_two_loads_that_replace_one_table_at_once_leave_one_of_them_in_both_sinks(files):
    programs = [files.start("ab", "replace"), files.start("cd", "replace")]
    for program in programs:
        program._process.wait(timeout=280)
    logs = [program.log.read_text() for program in programs]
    assert [program._process.returncode for program in programs] == [PUBLISHED] * 2, logs
    assert files.texts() in ("ab", "cd")
    files.assert_tidy()


def test_the_same_file_in_two_loads_at_once_is_in_the_table_once(files):
    programs = [files.start("ab"), files.start("bc")]
    for program in programs:
        program._process.wait(timeout=280)
    logs = [program.log.read_text() for program in programs]
    assert [program._process.returncode for program in programs] == [PUBLISHED] * 2, logs
    assert Counter(files.texts()) == Counter("abc")
    files.assert_tidy()
