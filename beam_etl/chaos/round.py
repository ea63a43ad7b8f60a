"""One load under attack: its dump, its places, and how its command is started, awaited and judged."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import tenacity
from psycopg import sql
from psycopg.conninfo import make_conninfo

from beam_etl.chaos.disk import SmallDisk
from beam_etl.chaos.dump import Dump
from beam_etl.chaos.oracle import Findings, check_final, check_visible, fingerprint
from beam_etl.chaos.process import Faults, LoadProcess, LoadRunner
from beam_etl.postgres import embedded_postgres

# A load repeats what PostgreSQL refuses for two minutes; what takes longer than this hangs.
PATIENCE_SECONDS = 180.0
# The same command must come to its end in so many runs once nothing disturbs it.
CALM_RUNS = 3

# A nemesis may wait for so many writes: fewer than a load stages and moves, so that it is not over.
MOST_WRITES = 8

PUBLISHED, NOT_PUBLISHED = 0, 3


@dataclasses.dataclass
class Battlefield:
    """What all rounds share: the server, the disk where there is one, chance, and the counts of what was done.

    Attributes:
      directory: of everything that the suite writes.
      postgres: data directory of its own server, which is running.
      disk: small and mounted for the lakes, None where this user may not mount.
      seconds_to_first_write: how long an undisturbed load takes until it first writes a file.
      tally: kills, crashes, ... by name.
      failpoints: hits that killed, by failpoint.
    """

    directory: Path
    postgres: Path
    runner: LoadRunner
    disk: SmallDisk | None
    rng: random.Random
    records: int
    seconds_to_first_write: float = 2.0
    tally: Counter[str] = dataclasses.field(default_factory=Counter)
    failpoints: Counter[str] = dataclasses.field(default_factory=Counter)

    def dsn(self, database: str = "postgres") -> str:
        return make_conninfo(embedded_postgres.start(self.postgres), dbname=database)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection, once the server has recovered from whatever was done to it."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
            wait=tenacity.wait_fixed(0.1),
            stop=tenacity.stop_after_delay(60),
            reraise=True,
        )
        return retrying(lambda: psycopg.connect(self.dsn(database), autocommit=True))

    def crash_postgres(self, down_seconds: float) -> None:
        embedded_postgres.crash(self.postgres)
        time.sleep(down_seconds)
        embedded_postgres.start(self.postgres)
        self.tally["PostgreSQL crashes"] += 1


class Round:
    """A dump, a lake and a database, and one command that loads the one into the others."""

    def __init__(self, field: Battlefield, number: int) -> None:
        self.field, self.rng = field, field.rng
        self.name = f"round_{number:04d}"
        self.directory = field.directory / self.name
        self.lake = (field.disk.path if field.disk else field.directory) / f"{self.name}_lake"
        self.dump = Dump(
            self.directory,
            records=field.records,
            files=3,
            widens=self.rng.random() < 0.25,
            spoiled=self.rng.random() < 0.2,
        )
        self.findings = Findings()
        self.logs: list[Path] = []
        with field.connect() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        self._dsn = field.dsn(self.name)
        self._others = 0

    @property
    def exit_code(self) -> int:
        """How the command ends when it has done all it can."""
        return NOT_PUBLISHED if self.dump.spoiled else PUBLISHED

    def start(self, faults: Faults = Faults(), dump: Dump | None = None) -> LoadProcess:  # noqa: B008 - frozen
        """Starts the round's command, or the same of another dump."""
        dump = dump or self.dump
        arguments = [
            f"--input={dump.input}",
            f"--config={dump.job}",
            f"--output={self.lake}",
            f"--postgres={self._dsn}",
            "--chunk_mb=1",
        ]
        load = self.field.runner.start(arguments, faults)
        self.logs.append(load.log)
        self.field.tally["loads"] += 1
        return load

    def another_dump(self) -> Dump:
        """A dump of the same table that shares no id with the round's own; readers may see it from now on."""
        self._others += 1
        other = Dump(
            self.directory / f"other_{self._others}",
            records=self.field.records // 2,
            files=2,
            widens=False,
            spoiled=False,
            first_id=50_000_000 + 2_000_000 * self._others,
        )
        # Not as the last one, which is what the round's own command must come to.
        self.dump.versions.insert(0, other.expected)
        return other

    def finish(self, load: LoadProcess) -> bool:
        """Waits for the end of a load; whether it did all it could. A load that hangs is a finding, and killed."""
        code = load.wait(PATIENCE_SECONDS)
        if code is None:
            self.findings.unbalanced.append(f"a load hung for {PATIENCE_SECONDS:.0f} s, see {load.log}")
            load.kill()
        return code == self.exit_code

    def kill(self, load: LoadProcess) -> None:
        """Kills a load; counted only where that is what ended it."""
        self.field.tally["kills"] += load.kill()

    def await_moment(self, load: LoadProcess) -> None:
        """Waits for a random moment in the life of a load just started, mostly while it commits or publishes.

        Moments are told by what the load does to its files, not by the clock, as the machine may be busy.
        """
        if self.rng.random() < 0.2:
            load.wait(self.rng.uniform(0, self.field.seconds_to_first_write))
            return
        for _ in range(min(self.rng.randint(1, MOST_WRITES), self.rng.randint(1, MOST_WRITES))):
            self.await_write(load)
        load.wait(self.rng.uniform(0, 0.1))

    def await_write(self, load: LoadProcess) -> None:
        """Waits until a load writes, moves or deletes a Parquet file, or ends."""
        before = self._parquet_files()
        self._await(load, lambda: self._parquet_files() != before)

    def await_stop(self, load: LoadProcess) -> None:
        """Waits until a load is stopped, or ends."""
        self._await(load, load.is_stopped)

    def _await(self, load: LoadProcess, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while load.is_running() and not holds() and time.monotonic() < deadline:
            load.wait(0.005)

    def _parquet_files(self) -> set[str]:
        return {str(path) for path in self.lake.rglob("*.parquet")}

    def check_visible(self) -> None:
        self.field.connect(self.name).close()
        self.findings.add(check_visible(self.lake, self._dsn, self.dump.versions))

    def end_calmly(self) -> None:
        """Repeats the command undisturbed until it has done all it can; checks everything; checks that again is nothing."""
        self.field.connect(self.name).close()
        for _ in range(CALM_RUNS):
            if self.finish(self.start()):
                break
            self.field.tally["undisturbed runs that failed"] += 1
        else:
            self.findings.unbalanced.append(f"{CALM_RUNS} undisturbed runs did not end well, see {self.logs[-1]}")
        self.findings.add(check_final(self.lake, self._dsn, self.dump))
        if self.findings:
            return
        before = fingerprint(self.lake, self._dsn)
        if not self.finish(self.start()):
            self.findings.unbalanced.append(f"one more run of a finished load did not end well, see {self.logs[-1]}")
        if fingerprint(self.lake, self._dsn) != before:
            self.findings.unbalanced.append("one more run of a finished load changed what is published")
