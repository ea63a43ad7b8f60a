"""What a whole process costs, its children included: wall time, CPU time, peak memory."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one process from start to end.

    Attributes:
      wall_seconds: from start to exit.
      cpu_seconds: user and system time, of the children it waited for too; of a database server nothing.
      peak_mib: largest resident set of it, or of one of its children. Linux counts what its parent had at the fork, so
        whoever measures must be small itself.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(command: Sequence[str], log: Path, exit_codes: frozenset[int] = frozenset({0})) -> Cost:
    """Runs a command to its end.

    Args:
      log: gets what it prints.
      exit_codes: the ones that mean success.

    Raises:
      RuntimeError: another exit code; carries the end of the log.
    """
    redirect = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], list(command), os.environ, file_actions=redirect)
    _, status, usage = os.wait4(process, 0)
    wall_seconds = time.perf_counter() - started
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code not in exit_codes:
        raise RuntimeError(f"{command[0]} ended with {exit_code}:\n{log.read_text(errors='replace')[-2000:]}")
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(
        statistics.median(cost.wall_seconds for cost in costs),
        statistics.median(cost.cpu_seconds for cost in costs),
        statistics.median(cost.peak_mib for cost in costs),
    )
