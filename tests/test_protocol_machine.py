"""A stateful model of the commit protocol that drives the shipped transitions: plans, leases, commits, books, publish,
roll-forward, reports and collection, on real files and a real PostgreSQL.

Runs of several loads of one table interleave step by step. Any step may be cut off at a failpoint, a run that was cut off
may go on as a zombie, chunks are committed again, a load has an attempt with another schema before its final one, a
resumed load runs with other cores. After every step each sink must show nothing, or every chunk of the loads it says it
holds exactly once; and no file may be in the table twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from psycopg import sql

from beam_etl import failpoints
from beam_etl.config import EtlConfig
from beam_etl.declarations import sink_settings
from beam_etl.loads.books import SinkBooks, balance_table
from beam_etl.loads.collection import collect_garbage, collect_load
from beam_etl.loads.holder import Holder
from beam_etl.loads.holdings import ever_published, read_holdings, select_files
from beam_etl.loads.leases import LakeLeases, LeaseTaken
from beam_etl.loads.plan import LoadPlan, freeze_plan, plan_key, read_report
from beam_etl.loads.publication import publish_table, roll_forward
from beam_etl.loads.report import write_report
from beam_etl.loads.table_plan import FileOutcome, read_table_plan, write_table_plan
from beam_etl.model import Chunk, ChunkRecord, ConvertedChunk, Dialect, InspectedFile, SourceFile, Span, SpanCount
from beam_etl.postgres.leases import PostgresLeases
from beam_etl.postgres.ledger import enter_chunk
from beam_etl.postgres.session import Connection
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema
from beam_etl.sinks import SinkSettings, TableTokens

COLUMNS = ("id", "n")
NARROW = TableSchema((ColumnSchema("id", ColumnType("string")), ColumnSchema("n", ColumnType("bigint"))))
WIDE = TableSchema((ColumnSchema("id", ColumnType("string")), ColumnSchema("n", ColumnType("string"))))
CHUNKS, ROWS, SIZE = 2, 2, 100
CUTS = [name for name in failpoints.FAILPOINTS if name != "load.planned"]
dead: set[str] = set()
numbers = itertools.count()


def row_ids(file: SourceFile) -> list[str]:
    return [f"{file.uri}:{chunk}:{row}" for chunk in range(CHUNKS) for row in range(ROWS)]


class MiniRun:
    """One run of a load, as the launcher and the graph go through it, one transition at a time."""

    def __init__(self, config: EtlConfig, files: list[SourceFile], cores: int) -> None:
        self.config, self.files, self.cores, self.table = config, files, cores, files[0].table
        self.holder = dataclasses.replace(Holder.this_process(plan_key(config, files)), run=f"run{next(numbers)}")
        self.sinks: SinkSettings = sink_settings(config, "")
        self.plan: LoadPlan | None = None

    def begin(self) -> bool:
        """Claims the table, rolls forward and plans; False where another load has it or the mode refuses."""
        store = PostgresStore(self.config.postgres, "")
        store.open()
        store.prepare()
        try:
            lake = LakeLeases(self.config.output, self.holder).claim(self.table, 3600)
            if isinstance(lake, LeaseTaken):
                return False
            token = PostgresLeases(store, self.holder).claim(self.table, 3600)
            if isinstance(token, LeaseTaken):
                return False
        finally:
            store.close()
        self.sinks = dataclasses.replace(self.sinks, tokens=(TableTokens(self.table, lake, token),))
        roll_forward(self.table, self.sinks)
        holdings = read_holdings([self.table], self.sinks)
        try:
            self.plan = freeze_plan(
                *(self.config, self.files, self.cores),
                select=lambda: select_files(self.config, self.files, holdings),
                is_current=holdings.is_current,
                may_resume=lambda frozen: holdings.may_resume(frozen, lambda *load: ever_published(self.sinks, *load)),
            )
        except ValueError:
            return False
        self.sinks = dataclasses.replace(self.sinks, load_id=self.plan.load_id)
        self.chunks = self._chunks()
        outcomes = [FileOutcome(file, self._inspected(file), ()) for file in self.plan.files]
        write_table_plan(self.config.output, self.plan.load_id, self.table, outcomes, self.chunks)
        return True

    @property
    def schemas(self) -> list[TableSchema]:
        """A load of an odd number of files has a first attempt whose schema does not hold; the last one is final."""
        assert self.plan is not None
        base = self.plan.bases.get(self.table)
        if base is not None and base.schema is not None:
            return [base.schema]
        return [NARROW, WIDE] if len(self.plan.files) % 2 else [NARROW]

    def commit(self, place: int, attempt: int, sink: str) -> None:
        chunk = self.chunks[place % len(self.chunks)]
        schema = self.schemas[attempt % len(self.schemas)]
        span = chunk.spans[0]
        first = span.start // (SIZE // CHUNKS) * ROWS
        ids = row_ids(span.file.source)[first : first + ROWS]
        values = pa.array(range(ROWS), pa.int64()).cast(schema.arrow.field("n").type)
        data = pa.Table.from_arrays([pa.array(ids), values], schema=schema.arrow)
        count = SpanCount(span.file.source.file_id, span.start, span.end, ROWS, 0, 0, ROWS)
        converted = ConvertedChunk(chunk, schema.hash, (count,))
        if sink == "parquet":
            self.sinks.open_parquet().commit_chunk(converted, data)
            return
        store = self.sinks.open_postgres()
        try:
            store.create_staging(self.table, schema)
            store.commit_chunk(converted, data)
        finally:
            store.close()

    def publish(self) -> bool:
        schema = self.schemas[-1]
        parquet, store = self.sinks.open_parquet(), self.sinks.open_postgres()
        try:
            records, ledger = (sink.read_records(self.table, schema.hash) for sink in (parquet, store))
            books = balance_table(
                *(self.table, schema.hash, self.plan.files),
                read_table_plan(self.config.output, self.plan.load_id, self.table),
                [
                    SinkBooks("parquet", tuple(records), sum(parquet.count_rows(records).values())),
                    SinkBooks("postgres", tuple(ledger), store.count_rows(self.table, schema.hash)),
                ],
            )
        except ValueError:  # another load has replaced what this one had published
            return False
        finally:
            store.close()
        published = publish_table(books, schema, self.sinks)
        write_report(self.sinks, [published], time.time())
        return published.published

    def release(self) -> None:
        tokens = self.sinks.tokens_of(self.table)
        LakeLeases(self.config.output, self.holder).release(self.table, tokens.lake)
        store = PostgresStore(self.config.postgres, "")
        store.open()
        PostgresLeases(store, self.holder).release(self.table, tokens.postgres)
        store.close()

    def finish(self) -> bool:
        """All that is left to do, to the end; whether the table is published."""
        report = read_report(self.config.output, self.plan.load_id)
        done = not self.plan.files or (
            report is not None and report["published"] and read_holdings([self.table], self.sinks).is_current(self.plan)
        )
        if not done:
            if not read_holdings([self.table], self.sinks).holds(self.plan, self.table):
                for place, sink in itertools.product(range(len(self.chunks)), ("parquet", "postgres")):
                    self.commit(place, len(self.schemas) - 1, sink)
            done = self.publish()
        if done:
            collect_load(self.sinks)
        return done

    def _inspected(self, file: SourceFile) -> InspectedFile:
        return InspectedFile(file, file.uri, SIZE, file.version, Dialect(), 0, COLUMNS)

    def _chunks(self) -> list[Chunk]:
        step = SIZE // CHUNKS
        return [
            Chunk(self.table, f"{file.file_id:06d}-{start:014d}", (Span(self._inspected(file), start, start + step),))
            for file in self.plan.files
            for start in range(0, SIZE, step)
        ]


class ProtocolMachine(RuleBasedStateMachine):
    dsn = ""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="protocol_"))
        self.output, self.table = str(self.directory / "lake"), f"t{next(numbers)}"
        self.runs: list[MiniRun] = []
        self.loads: dict[str, list[SourceFile]] = {}
        self.patch = mock.patch.object(Holder, "is_dead_here", lambda holder: holder.run in dead)
        self.patch.start()

    def teardown(self) -> None:
        """Whatever was left behind, one undisturbed run of one more load ends well, and the sinks agree."""
        try:
            for run in self.runs:
                dead.add(run.holder.run)
            last = self._run({0, 1, 2}, "replace", 4)
            assert last.begin()
            self._know(last)
            assert last.finish()
            wanted = sorted(itertools.chain.from_iterable(map(row_ids, last.files)))
            assert self._postgres_rows() == wanted
            assert self._parquet_rows() == wanted
        finally:
            self.patch.stop()
            failpoints.arm("")
            shutil.rmtree(self.directory)

    def _run(self, files: set[int], mode: str, cores: int) -> MiniRun:
        sources = [
            SourceFile(place, f"/dump/{self.table}/{file}.csv", "", self.table, SIZE, f"{SIZE}-1")
            for place, file in enumerate(sorted(files))
        ]
        settings = {"input": ["x"], "output": self.output, "postgres": self.dsn, "mode": mode}
        return MiniRun(EtlConfig(**settings), sources, cores)

    def _know(self, run: MiniRun) -> None:
        self.loads[run.plan.load_id] = list(run.plan.files)
        self.runs.append(run)

    def _attempt(self, run: MiniRun, step: Any, cut: tuple[str, int] | None) -> Any:
        """Runs a step, cut off at a failpoint or not; who was cut off is dead to others, and may yet go on."""
        failpoints.arm(f"{cut[0]}=raise@{cut[1]}" if cut else "")
        try:
            return step()
        except failpoints.FailpointError:
            dead.add(run.holder.run)
        except (psycopg.Error, ValueError, OSError, RuntimeError) as error:
            # A zombie finds its staging gone, or its table taken: it may fail, and must not harm.
            assert run.holder.run in dead, error
        except Exception as error:  # noqa: BLE001
            assert type(error).__module__.startswith("beam_etl"), error
            assert run.holder.run in dead, error
        finally:
            failpoints.arm("")
        return None

    cuts = st.none() | st.tuples(st.sampled_from(CUTS), st.integers(1, 3))

    @rule(
        files=st.sets(st.integers(0, 2), min_size=1),
        mode=st.sampled_from(["replace", "append"]),
        cores=st.sampled_from([1, 8]),
        cut=cuts,
    )
    def begin(self, files: set[int], mode: str, cores: int, cut: Any) -> None:
        run = self._run(files, mode, cores)
        if self._attempt(run, run.begin, cut):
            self._know(run)
        else:
            dead.add(run.holder.run)
            if run.plan is not None:
                self.loads[run.plan.load_id] = list(run.plan.files)

    def _pick(self, which: int) -> MiniRun | None:
        runs = [run for run in self.runs if run.plan.files]
        return runs[which % len(runs)] if runs else None

    @rule(
        which=st.integers(0, 5),
        place=st.integers(0, 5),
        attempt=st.integers(0, 1),
        sink=st.sampled_from(["parquet", "postgres"]),
        cut=cuts,
    )
    def commit(self, which: int, place: int, attempt: int, sink: str, cut: Any) -> None:
        run = self._pick(which)
        if run is not None:
            self._attempt(run, lambda: run.commit(place, attempt, sink), cut)

    @rule(which=st.integers(0, 5), cut=cuts)
    def publish(self, which: int, cut: Any) -> None:
        run = self._pick(which)
        if run is not None:
            self._attempt(run, run.publish, cut)

    @rule(which=st.integers(0, 5), cut=cuts)
    def finish(self, which: int, cut: Any) -> None:
        run = self._pick(which)
        if run is not None and self._attempt(run, run.finish, cut) and run.holder.run not in dead:
            run.release()
            dead.add(run.holder.run)

    @rule(which=st.integers(0, 5))
    def die(self, which: int) -> None:
        run = self._pick(which)
        if run is not None:
            dead.add(run.holder.run)

    @rule(days=st.sampled_from([0.0, 7.0]))
    def gc(self, days: float) -> None:
        list(collect_garbage(sink_settings(self._run({0}, "replace", 1).config, ""), days))

    @invariant()
    def each_sink_shows_whole_loads_exactly_once(self) -> None:
        if not self.runs:
            return
        sinks = sink_settings(self.runs[0].config, "")
        held = read_holdings([self.table], sinks).tables[self.table]
        for state, rows in zip(held, (self._parquet_rows(), self._postgres_rows()), strict=True):
            files = [file for load in state.loads for file in self.loads[load]]
            assert len({file.uri for file in files}) == len(files), "a file is in the table twice"
            assert rows == sorted(itertools.chain.from_iterable(map(row_ids, files)))

    def _postgres_rows(self) -> list[str]:
        with psycopg.connect(self.dsn) as connection:
            if connection.execute("SELECT to_regclass(%s)", [self.table]).fetchone() == (None,):
                return []
            found = connection.execute(sql.SQL("SELECT id FROM {}").format(sql.Identifier(self.table))).fetchall()
        return sorted(value for (value,) in found)

    def _parquet_rows(self) -> list[str]:
        """By the manifest; and by the directory, where `_SUCCESS` says that it is whole."""
        store = SinkSettings(self.output, "").open_parquet()
        manifest = store.current_manifest(self.table) or {"files": []}
        directory = Path(self.output) / self.table
        named = self._read([directory / file["name"] for file in manifest["files"]])
        if (directory / "_SUCCESS").exists():
            assert self._read(list(directory.glob("*.parquet"))) == named
        return named

    @staticmethod
    def _read(paths: list[Path]) -> list[str]:
        return sorted(value for path in paths for value in pq.read_table(path, columns=["id"])["id"].to_pylist())


def run_machine(dsn: str, examples: int, steps: int, **more: Any) -> None:
    machine = type("Machine", (ProtocolMachine,), {"dsn": dsn})
    health = list(HealthCheck)
    own = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=health, **more)
    run_state_machine_as_test(machine, settings=own)


def test_no_interleaving_breaks_the_promise(module_database: str) -> None:
    run_machine(module_database, examples=5, steps=15)


@pytest.mark.slow
def test_no_longer_interleaving_breaks_the_promise(module_database: str) -> None:
    run_machine(module_database, examples=30, steps=30)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_no_interleaving_of_any_length_breaks_the_promise(module_database: str) -> None:
    run_machine(module_database, examples=400, steps=50)


def test_the_model_finds_a_ledger_that_lets_everybody_through(module_database: str) -> None:
    def let_through(connection: Connection, record: ChunkRecord) -> bool:
        enter_chunk(connection, record)
        return True

    with mock.patch("beam_etl.postgres.store.enter_chunk", let_through), pytest.raises(AssertionError):
        run_machine(module_database, examples=40, steps=15, phases=[Phase.generate], derandomize=True)
