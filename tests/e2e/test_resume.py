"""Loads that are killed, repeated, superseded or run twice at once end exact, and do no work again that is committed."""

import json
import os
import signal
import sys
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow.compute as pc
import pytest

from beam_etl.exit_codes import FAILED, PUBLISHED
from tests.landed import (
    commit_records,
    last_report,
    parquet_rows,
    parquet_table,
    postgres_rows,
    reject_lines,
    run,
    staging_tables,
)
from tests.processes import REPOSITORY, Program, poll

RECORDS = 400_000
BAD_EVERY = 1000  # one record in so many is ragged
BAD = [number for number in range(RECORDS) if number % BAD_EVERY == 7]


def record(number):
    return f"{number}\n" if number % BAD_EVERY == 7 else f'{number},"text, {number % 97}\n",{number % 13}.25\n'


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A file of about eleven chunks, with quoted line breaks, rejects, and a last record that widens a column."""
    path = tmp_path_factory.mktemp("big") / "big.csv"
    path.write_text("id,text,amount\n" + "".join(map(record, range(RECORDS))) + f"{RECORDS},last,0.125\n")
    return path


class Command:
    """One command on the big file."""

    def __init__(self, big: Path, directory: Path, dsn: str) -> None:
        self.lake, self.dsn, self.directory = directory / "lake", dsn, directory
        self.arguments = [f"--input={big}", f"--output={self.lake}", f"--postgres={dsn}", "--chunk_mb=1"]

    def start(self, name: str = "program") -> Program:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "beam_etl", *self.arguments]
        return Program(command, environment, self.directory / f"{name}.log")

    def assert_exact(self) -> None:
        entry = last_report(self.lake)["tables"]["big"]
        assert (entry["records_in"], entry["rows"], entry["rejects"]) == (RECORDS + 1, RECORDS + 1 - len(BAD), len(BAD))
        assert entry["published"]
        landed = parquet_table(self.lake, "big")
        good = [number for number in range(RECORDS + 1) if number % BAD_EVERY != 7]
        assert landed["id"].to_pylist() == good, "in the order of the file, each once"
        amounts = sum(number % 13 + Decimal("0.25") for number in good[:-1]) + Decimal("0.125")
        assert pc.sum(landed["amount"]).as_py() == amounts
        assert str(landed["amount"].type) == "decimal128(18, 3)"
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(
                "SELECT count(*), count(DISTINCT id), sum(id), sum(amount), "
                "count(*) FILTER (WHERE text = format(E'text, %s\\n', id % 97)) FROM big"
            ).fetchone()
        assert found == (len(good), len(good), sum(good), amounts, len(good) - 1)
        rejects = reject_lines(self.lake, "big")
        assert [reject["raw"] for reject in rejects] == [str(number) for number in BAD]
        assert [reject["record"] for reject in rejects] == [number + 1 for number in BAD]
        # Two lines for each good record before, one for each bad one, one for the header.
        assert [reject["line"] for reject in rejects] == [2 + 2 * bad - place for place, bad in enumerate(BAD)]


@pytest.fixture
def command(big, tmp_path, database):
    return Command(big, tmp_path, database)


def committed_in_postgres(dsn):
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('beam_etl.chunk_ledger')").fetchone() == (None,):
            return set()
        return set(
            connection.execute("SELECT schema_hash, chunk_id, committed_at FROM beam_etl.chunk_ledger").fetchall()
        )


def test_a_killed_load_goes_on_from_its_committed_chunks(command):
    program = command.start()
    try:
        poll("a chunk committed in both sinks", lambda: len(commit_records(command.lake)) >= 2, seconds=120)
    finally:
        program.kill(signal.SIGKILL)
    before, ledger = commit_records(command.lake), committed_in_postgres(command.dsn)
    assert not (command.lake / "big").exists(), "killed too late: the load was over"
    done = run(*command.arguments, "--keep_staging")
    assert done.code == PUBLISHED, done.err
    command.assert_exact()
    after = commit_records(command.lake)
    assert len(after) > len(before) >= 2
    assert {path: after[path] for path in before} == before
    assert ledger <= committed_in_postgres(command.dsn)
    again = run(*command.arguments, "--keep_staging")
    assert again.code == PUBLISHED
    assert "Already loaded: " in again.out
    assert commit_records(command.lake) == after
    assert run(*command.arguments).code == PUBLISHED
    assert not any(command.lake.glob("_beam_etl/staging/*"))
    command.assert_exact()


def test_a_load_killed_while_it_publishes_is_published_once(command):
    program = command.start()
    try:
        poll("the first published file", lambda: any((command.lake / "big").glob("*.parquet")), seconds=120)
    finally:
        program.kill(signal.SIGKILL)
    before = commit_records(command.lake)
    done = run(*command.arguments, "--keep_staging")
    assert done.code == PUBLISHED, done.out + done.err
    command.assert_exact()
    assert commit_records(command.lake) == before, "everything was committed, so nothing is converted again"


def test_the_same_command_twice_at_once_ends_exact(command):
    programs = [command.start("first"), command.start("second")]
    for program in programs:
        program._process.wait(timeout=200)
    logs = [program.log.read_text() for program in programs]
    assert [program._process.returncode for program in programs] == [PUBLISHED, PUBLISHED], logs
    command.assert_exact()
    assert len(list(command.lake.glob("_beam_etl/loads/*"))) == 1
    assert not any(command.lake.glob("_beam_etl/staging/*")), "the last of them takes it away"
    assert staging_tables(command.dsn) == set()


class Small:
    """Loads of two versions of one table."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory, self.lake, self.dsn = directory, directory / "lake", dsn
        for name, value in (("a", 1), ("b", 2)):
            (directory / f"{name}.csv").write_text(f"id,text\n{value},{name}\n")

    def load(self, name: str, *more: str) -> str:
        """Loads a version, checks that both sinks hold it, and returns the id of the load."""
        arguments = [f"--input={self.directory / name}.csv", "--table=t", f"--output={self.lake}"]
        done = run(*arguments, f"--postgres={self.dsn}", f"--report={self.directory / 'report.json'}", *more)
        assert (done.code, done.err) == (PUBLISHED, "")
        rows = {"a": [(1, "a")], "b": [(2, "b")]}[name]
        assert parquet_rows(self.lake, "t") == postgres_rows(self.dsn, "t") == rows
        self.skipped = "Already loaded: " in done.out
        line = next(line for line in done.out.splitlines() if line.startswith("Load "))
        return line.split()[1]


@pytest.fixture
def small(tmp_path, database):
    return Small(tmp_path, database)


def test_a_then_b_then_a_is_a_new_generation_of_a(small):
    first, other = small.load("a"), small.load("b")
    assert first != other
    third = small.load("a")
    assert (third, small.skipped) == (first.replace("-000", "-001"), False)
    assert (small.load("a"), small.skipped) == (third, True)
    forced = small.load("a", "--force")
    assert (forced, small.skipped) == (first.replace("-000", "-002"), False)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE t",
        "DROP TABLE t; DROP SCHEMA beam_etl CASCADE",
        "UPDATE beam_etl.table_loads SET load_id = 'another lake'",
    ],
)
def test_a_load_that_postgres_no_longer_holds_is_not_already_loaded(small, statement):
    first = small.load("a")
    with psycopg.connect(small.dsn) as connection:
        connection.execute(statement)
    assert (small.load("a"), small.skipped) == (first.replace("-000", "-001"), False)


def test_a_load_that_was_published_but_not_reported_is_reported_without_converting_again(small):
    first = small.load("a")
    [report] = small.lake.glob("_beam_etl/loads/*/report.json")
    told = json.loads(report.read_text())["tables"]
    files = {path: path.stat().st_mtime_ns for path in small.lake.glob("t/*")}
    assert not any(small.lake.glob("_beam_etl/staging/*")), "nothing is left from which the report could be made again"
    report.unlink()
    assert small.load("a") == first
    timeless = [{**tables["t"], "seconds": 0} for tables in (told, last_report(small.lake)["tables"])]
    assert timeless[0] == timeless[1]
    assert {path: path.stat().st_mtime_ns for path in small.lake.glob("t/*")} == files
    assert not any(small.lake.glob("_beam_etl/staging/*"))


def test_a_load_whose_files_are_gone_is_not_already_loaded(small):
    first = small.load("a")
    [file] = (small.lake / "t").glob("*.parquet")
    file.unlink()
    assert (small.load("a"), small.skipped) == (first.replace("-000", "-001"), False)


def test_an_interrupted_run_says_how_to_go_on(command):
    program = command.start()
    try:
        poll("a committed chunk", lambda: len(commit_records(command.lake)) >= 1, seconds=120)
        program.kill(signal.SIGINT)
    finally:
        program.kill()
    assert program._process.returncode == FAILED, program.log.read_text()
    assert program.log.read_text() == "beam_etl: interrupted; run the same command again to resume\n"
