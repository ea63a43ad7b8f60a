"""One budget of memory for all heavy calls of a worker process: who does not fit waits; nobody fails for bad luck."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from beam_etl.memory.monitor import release_unused_memory
from beam_etl.memory.system import MB, available_memory_bytes, cgroup_limits, import_psutil, total_memory_bytes

# A request for more than this share of the budget runs alone: an estimate that is a little low then meets no others.
ALONE_RATIO = 0.8

# default_budget_bytes: share of the whole memory, share of what is free now, and what any process needs to do anything.
BUDGET_TOTAL_RATIO = 0.6
BUDGET_AVAILABLE_RATIO = 0.8
MIN_BUDGET_BYTES = 64 * MB

# Waiters look again this often: memory of the system comes back without anybody telling.
_POLL_SECONDS = 0.25

_ADVICE = (
    "lower chunk_bytes or the number of threads in a worker, raise the memory budget, or give the worker more memory"
)


def default_budget_bytes(processes: int = 1) -> int:
    """Bytes that the heavy calls of one worker process may hold together.

    The smaller of 60 % of the memory of the machine or container and 80 % of what is available in it now, divided among
    the `processes` workers that share it, and at least 64 MiB. The rest is for the interpreter, the runner's buffers,
    Parquet and COPY encoders, and the file cache.

    Raises:
      ValueError: processes is below 1.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} must be at least 1 worker process")
    psutil, limits = import_psutil(), cgroup_limits()
    share = BUDGET_TOTAL_RATIO * total_memory_bytes(psutil, limits)
    available = available_memory_bytes(psutil, limits)
    if available is not None:
        share = min(share, BUDGET_AVAILABLE_RATIO * available)
    return max(MIN_BUDGET_BYTES, int(share / processes))


@dataclasses.dataclass(frozen=True)
class BudgetStats:
    """What a budget has counted.

    Attributes:
      waits: requests that had to wait; wait_seconds: how long, all together.
      peak_bytes: the most bytes ever reserved at the same time.
    """

    waits: int = 0
    wait_seconds: float = 0.0
    peak_bytes: int = 0


class Reservation:
    """Bytes held in a budget until `release`, or the end of the `with` block. Releasing again does nothing.

    Attributes:
      bytes: what was asked for.
      wait_seconds: how long it had to wait.
    """

    def __init__(self, budget: MemoryBudget, key: int, size: int, wait_seconds: float) -> None:
        self._budget = budget
        self._key = key
        self.bytes = size
        self.wait_seconds = wait_seconds

    def release(self) -> None:
        self._budget._release(self._key)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclasses.dataclass(frozen=True)
class _Held:
    bytes: int
    alone: bool
    thread: int


class MemoryBudget:
    """Grants bytes to threads, first come first served, never more than limit_bytes in total.

    A request above 80 % of the limit, or made with `alone`, is granted when nothing else is held, and nothing else is
    granted beside it. It may even exceed the limit if the memory available in the system holds it: a single chunk
    too large for the budget is slow, not lost.

    The queue is strict: a large request at its head is not overtaken, so it cannot starve. A thread that already holds
    a reservation gets further ones at once and for nothing, as its outer one stands for the whole call: waiting for
    itself it would wait for ever.

    Release may come from any thread, and from a generator that the garbage collector closes while this very thread is
    inside the lock; hence the reentrant lock and a table of holders that is only changed by single dict operations.
    """

    def __init__(
        self,
        limit_bytes: int,
        *,
        available_bytes: Callable[[], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit_bytes < 1:
            raise ValueError(f"limit_bytes={limit_bytes} must be at least 1 byte; omit the budget to switch it off")
        self.limit_bytes = limit_bytes
        self._available_bytes = available_bytes or _system_available_bytes
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._keys = itertools.count()
        self._held: dict[int, _Held] = {}
        self._queue: deque[int] = deque()
        self._stats = BudgetStats()

    @property
    def reserved_bytes(self) -> int:
        return sum(held.bytes for held in list(self._held.values()))

    @property
    def holders(self) -> int:
        """Reservations held at this moment, nested ones included."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Requests in the queue at this moment."""
        return len(self._queue)

    @property
    def stats(self) -> BudgetStats:
        return self._stats

    def reserve(self, size: int, deadline_seconds: float, *, alone: bool = False) -> Reservation:
        """Waits until `size` bytes are free, and holds them.

        Args:
          size: bytes; 0 is granted in its turn like any other.
          deadline_seconds: the longest wait.
          alone: nothing else may be held at the same time.

        Raises:
          ValueError: size is negative.
          MemoryError: the wait passed the deadline, or a request beyond the limit does not fit the system either; the
            message says who holds what, and what to change.
        """
        if size < 0:
            raise ValueError(f"cannot reserve size={size} bytes; an estimate must be 0 bytes or more")
        thread = threading.get_ident()
        with self._changed:
            if any(held.thread == thread for held in list(self._held.values())):
                return self._grant(_Held(0, False, thread), size, 0.0)
            request = _Held(size, alone or size > ALONE_RATIO * self.limit_bytes, thread)
            ticket = next(self._keys)
            self._queue.append(ticket)
            try:
                waited = self._wait_for_turn(ticket, request, deadline_seconds)
                if size > ALONE_RATIO * self.limit_bytes:
                    self._check_system(size)
                return self._grant(request, size, waited)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _wait_for_turn(self, ticket: int, request: _Held, deadline_seconds: float) -> float:
        if self._queue[0] == ticket and self._fits(request):
            return 0.0
        start = self._clock()
        self._stats = dataclasses.replace(self._stats, waits=self._stats.waits + 1)
        collected = False
        try:
            while True:
                left = deadline_seconds - (self._clock() - start)
                if self._queue[0] == ticket and self._fits(request):
                    return self._clock() - start
                if left <= 0 and not collected:
                    # A call that failed may still be held by a reference cycle through its traceback.
                    collected = True
                    gc.collect()
                elif left <= 0:
                    raise MemoryError(self._timeout_message(request, deadline_seconds))
                else:
                    self._changed.wait(min(left, _POLL_SECONDS))
        finally:
            waited = self._stats.wait_seconds + self._clock() - start
            self._stats = dataclasses.replace(self._stats, wait_seconds=waited)

    def _fits(self, request: _Held) -> bool:
        held = list(self._held.values())
        if not held:
            return True
        if request.alone or any(other.alone for other in held):
            return False
        return sum(other.bytes for other in held) + request.bytes <= self.limit_bytes

    def _check_system(self, size: int) -> None:
        available = self._available_bytes()
        if available is not None and size > available:
            release_unused_memory()
            available = self._available_bytes()
        if available is not None and size > available:
            raise MemoryError(
                f"a single call needs about {_mb(size)} of a memory budget of {_mb(self.limit_bytes)}, and only "
                f"{_mb(available)} are available in the system: {_ADVICE}"
            )

    def _grant(self, held: _Held, size: int, wait_seconds: float) -> Reservation:
        key = next(self._keys)
        self._held[key] = held
        self._stats = dataclasses.replace(self._stats, peak_bytes=max(self._stats.peak_bytes, self.reserved_bytes))
        return Reservation(self, key, size, wait_seconds)

    def _release(self, key: int) -> None:
        if self._held.pop(key, None) is not None:
            with self._changed:
                self._changed.notify_all()

    def _timeout_message(self, request: _Held, deadline_seconds: float) -> str:
        return (
            f"waited {deadline_seconds:g} s for {_mb(request.bytes)} of a memory budget of {_mb(self.limit_bytes)}; "
            f"{self.holders} other calls hold {_mb(self.reserved_bytes)}: {_ADVICE}"
        )


def _system_available_bytes() -> int | None:
    return available_memory_bytes(import_psutil(), cgroup_limits())


def _mb(size: int) -> str:
    return f"{size / MB:.1f} MB"
