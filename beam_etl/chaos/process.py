"""Loads as processes of their own: started quickly, armed with faults, signalled, and never left behind.

Importing Beam takes seconds, a small load hardly longer. So loads are forked from a server process that has imported
everything and started nothing (multiprocessing's forkserver): what is killed is a whole process all the same, which
runs the command line's main function.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from beam_etl import failpoints

# What a load does: takes the command line's arguments, returns the exit code. Must be importable by its name.
Loader = Callable[[Sequence[str]], int]

KILLED = -signal.SIGKILL


@dataclasses.dataclass(frozen=True)
class Faults:
    """What is wrong inside a load from its start.

    Attributes:
      failpoints: rules as in BEAM_ETL_FAILPOINTS.
      twice_ratio: share of the commits of chunks that two threads make at the same time, in each sink.
      seed: of the choice of those.
    """

    failpoints: str = ""
    twice_ratio: float = 0.0
    seed: int = 0


class LoadProcess:
    """One running load, with the processes it starts itself."""

    def __init__(self, process: ForkServerProcess, log: Path) -> None:
        self._process = process
        self.log = log

    def is_running(self) -> bool:
        return self._process.is_alive()

    def is_stopped(self) -> bool:
        """Whether it is held by SIGSTOP."""
        try:
            return bool(psutil.Process(self._pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal; None when it has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to the load and its children; False when it had ended before."""
        if not self.is_running():
            return False
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:  # not yet a leader of its own group, or gone this very moment
            self._process.kill() if number == signal.SIGKILL else os.kill(self._pid, number)
        return True

    def kill(self) -> bool:
        """Kills the load; True where that is what ended it."""
        return self.signal(signal.SIGKILL) and self.wait(60) == KILLED

    @property
    def _pid(self) -> int:
        if self._process.pid is None:
            raise RuntimeError("the load was not started")
        return self._process.pid


class LoadRunner:
    """Starts loads. A context manager: whatever still runs at its end is killed.

    Args:
      loader: what a load does.
      logs: directory for one log a load.
      preloaded: module that is imported once, for all loads. The first runner of a process decides.
    """

    def __init__(self, loader: Loader, logs: Path, preloaded: str) -> None:
        self._loader = loader
        self._logs = logs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preloaded])
        self._started: list[LoadProcess] = []
        self.starts = 0
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, arguments: Sequence[str], faults: Faults = Faults()) -> LoadProcess:
        self.starts += 1
        log = self._logs / f"{self.starts:05d}.log"
        process = self._context.Process(target=_run, args=(self._loader, list(arguments), faults, str(log)))
        process.start()
        load = LoadProcess(process, log)
        self._started = [*(other for other in self._started if other.is_running()), load]
        return load

    def __enter__(self) -> LoadRunner:
        return self

    def __exit__(self, *_: object) -> None:
        for load in self._started:
            load.kill()


def _run(loader: Loader, arguments: Sequence[str], faults: Faults, log: str) -> None:
    """The life of a load's process."""
    os.setsid()
    # Ignored by the server; in a load Ctrl-C and SIGTERM mean what they mean to any Python program.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    print(*arguments, faults, flush=True)  # noqa: T201
    failpoints.arm(faults.failpoints)
    if faults.twice_ratio:
        commit_chunks_twice(faults.twice_ratio, faults.seed)
    sys.exit(loader(arguments))


def commit_chunks_twice(ratio: float, seed: int) -> None:
    """From now on in this process, a share of the chunks is committed twice at once in each sink.

    As a runner does that thinks a worker dead, or hedges against a slow one.
    """
    from beam_etl.parquet.staging import ParquetStaging
    from beam_etl.postgres.store import PostgresStore

    rng, lock = random.Random(seed), threading.Lock()

    def twice(commit: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with lock:
                once, first = rng.random() >= ratio, rng.randrange(2)
            if once:
                return commit(*arguments)
            with ThreadPoolExecutor(2) as pool:
                both = [pool.submit(commit, *arguments) for _ in range(2)]
                return [attempt.result() for attempt in both][first]

        return run

    for store in (ParquetStaging, PostgresStore):
        store.commit_chunk = twice(store.commit_chunk)  # type: ignore[method-assign]
