"""The gate before every heavy call of a worker process: reserves its bytes, looks at the pressure, and reacts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from beam_etl.memory.budget import MemoryBudget, Reservation, default_budget_bytes
from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel, await_relief, release_unused_memory
from beam_etl.memory.system import MB, cgroup_limits, import_psutil, total_memory_bytes

# Where Arrow holds more than this multiple of the budget, estimates are too low. Up to 0.7 of it (1.05 budgets) the
# budget alone is in charge.
ARROW_LIMIT_FACTOR = 1.5

# What must stay available in the system: the monitor's default, but no more than this share of a small container.
MIN_AVAILABLE_MB = 512
MIN_AVAILABLE_RATIO = 0.05

DEADLINE_SECONDS = 1800.0
EMERGENCY_WAIT_SECONDS = 60.0

# A garbage collection costs up to 0.1 s; while pressure stays below EMERGENCY one a second is enough for all threads.
RELEASE_INTERVAL_SECONDS = 1.0

Count = Callable[[str, int], None]
BudgetMb = int | Literal["auto"]


class MemoryGate:
    """Back-pressure for heavy calls: they wait for bytes, and run one at a time while memory is short.

    WARNING releases unused memory. CRITICAL also lets the call run alone. EMERGENCY waits until the other calls have
    finished, and then up to emergency_wait_seconds for the pressure to fall, before it gives up.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        monitor: MemoryMonitor,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        emergency_wait_seconds: float = EMERGENCY_WAIT_SECONDS,
        release: Callable[[], None] = release_unused_memory,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.budget = budget
        self.monitor = monitor
        self._deadline_seconds = deadline_seconds
        self._emergency_wait_seconds = emergency_wait_seconds
        self._release = release
        self._clock = clock
        self._sleep = sleep
        self._released_at = float("-inf")

    def enter(self, size: int, count: Count) -> Reservation:
        """Lets one call in, that is estimated to need `size` bytes; it is over when the reservation is released.

        Args:
          size: bytes.
          count: told each cause by its name and amount: waits, wait_milliseconds, warnings, criticals, emergencies,
            releases.

        Raises:
          ValueError: size is negative.
          MemoryError: no bytes came free within the deadline, a single call does not fit the system, or the emergency
            did not pass. Worth another attempt: other work may have ended by then.
        """
        level = self._react(count)
        alone = level >= MemoryPressureLevel.CRITICAL
        reservation = self._reserve(size, alone, count)
        try:
            if reservation.wait_seconds:
                level = self._react(count)
            if level >= MemoryPressureLevel.EMERGENCY:
                if not alone:
                    reservation.release()
                    reservation = self._reserve(size, True, count)
                await_relief(
                    self.monitor,
                    self._emergency_wait_seconds,
                    release=lambda: self._release_counted(count),
                    clock=self._clock,
                    sleep=self._sleep,
                )
        except BaseException:
            reservation.release()
            raise
        return reservation

    def _reserve(self, size: int, alone: bool, count: Count) -> Reservation:
        reservation = self.budget.reserve(size, self._deadline_seconds, alone=alone)
        if reservation.wait_seconds:
            count("waits", 1)
            count("wait_milliseconds", round(reservation.wait_seconds * 1000))
        return reservation

    def _react(self, count: Count) -> MemoryPressureLevel:
        """Counts the level, releases memory if it is not NORMAL, and says what level is left."""
        level = self.monitor.check_memory_pressure()
        if level is MemoryPressureLevel.NORMAL:
            return level
        count(f"{level.name.lower()}s" if level is not MemoryPressureLevel.EMERGENCY else "emergencies", 1)
        now = self._clock()
        if level < MemoryPressureLevel.EMERGENCY and now - self._released_at < RELEASE_INTERVAL_SECONDS:
            return level
        self._released_at = now
        self._release_counted(count)
        return self.monitor.check_memory_pressure(fresh=True)

    def _release_counted(self, count: Count) -> None:
        self._release()
        count("releases", 1)


_gates: dict[tuple[BudgetMb, int], MemoryGate] = {}
_gates_lock = threading.Lock()


def process_gate(budget_mb: BudgetMb, processes: int = 1) -> MemoryGate:
    """The gate that all threads of this process share, made at its first use on the worker itself.

    Args:
      budget_mb: MiB that heavy calls may hold together; "auto" plans it from the machine (default_budget_bytes).
      processes: worker processes that share the machine or container; matters to "auto" alone.
    """
    with _gates_lock:
        gate = _gates.get((budget_mb, processes))
        if gate is None:
            limit_bytes = default_budget_bytes(processes) if budget_mb == "auto" else budget_mb * MB
            gate = _gates[budget_mb, processes] = MemoryGate(MemoryBudget(limit_bytes), monitor_for(limit_bytes))
        return gate


def monitor_for(budget_bytes: int) -> MemoryMonitor:
    """A monitor whose limits leave room for a budget that is in full use."""
    total_mb = total_memory_bytes(import_psutil(), cgroup_limits()) / MB
    return MemoryMonitor(
        max_pyarrow_mb=ARROW_LIMIT_FACTOR * budget_bytes / MB,
        min_system_available_mb=min(MIN_AVAILABLE_MB, MIN_AVAILABLE_RATIO * total_mb),
    )
