"""Programs that a test starts, waits for, kills, and never leaves behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]


def poll(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Returns as soon as the condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.05)


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A running program with everything it starts; what it prints is appended to `log`."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            # A session of its own, so that a signal reaches what the program started itself.
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def check(self) -> None:
        """Raises RuntimeError when the program has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}, see {self.log}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, or None while the program runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """The exit code, once the program has ended.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        return self._process.wait(timeout=seconds)

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal to the program and what it started; returns when the program is gone."""
        # Until the program is waited for, the number of its group belongs to nobody else, even when it is dead.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, by)
        self._process.wait(timeout=60)

    def kill_alone(self) -> None:
        """Kills the program and leaves what it started running, until `kill`."""
        os.kill(self._process.pid, signal.SIGKILL)


class WorkerPool:
    """Beam's pool of Python workers, which can import this repository, its tests included.

    `with WorkerPool(log) as pool:` gives `pool.address`, which --environment_config takes. The workers have no other
    environment variables than PATH, PYTHONPATH and those given here.
    """

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        self._environment = dict(environment or {})
        self._port = free_port()
        self.address = f"localhost:{self._port}"

    def __enter__(self) -> "WorkerPool":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the pool, again after a kill, at the same address; returns when it listens."""
        # The pool starts each worker as `python`, so this interpreter must be the first on PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {"PATH": path, "PYTHONPATH": str(REPOSITORY), **self._environment}
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={self._port}"]
        self._program = Program(command, environment, self._log)
        poll(f"the worker pool, see {self._log}", self._listens, seconds=60)

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends the pool with all its workers."""
        self._program.kill(by)

    def workers(self) -> list[int]:
        """The process ids of the workers that are alive."""
        children = psutil.Process(self._program.pid).children()
        return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def _listens(self) -> bool:
        self._program.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
