"""How near this process is to the end of its memory: Arrow's pool, the process, and the system or container."""

from __future__ import annotations

import enum
import gc
import logging
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TypedDict

import pyarrow as pa

from beam_etl.memory.system import MB, available_memory_bytes, cgroup_limits, import_psutil, total_memory_bytes

WARNING_RATIO = 0.7
CRITICAL_RATIO = 0.9
EMERGENCY_RATIO = 1.0

# Multiples of min_system_available_mb below which the system as a whole is under pressure.
WARNING_AVAILABLE_FACTOR = 2.0
CRITICAL_AVAILABLE_FACTOR = 1.5
EMERGENCY_AVAILABLE_FACTOR = 1.0

STATUS_CACHE_SECONDS = 0.1
RELIEF_POLL_SECONDS = 0.25

# Shares of the memory of the machine or container: (Arrow pool, process, least available).
_PRESETS = {"environment": (0.40, 0.70, 0.20), "restrictive": (0.50, 0.80, 0.10)}

_logger = logging.getLogger(__name__)


class MemoryPressureLevel(enum.IntEnum):
    """Ordered, so that the worst of several is their max."""

    NORMAL = 0
    WARNING = 1
    CRITICAL = 2
    EMERGENCY = 3


class MemoryStatus(TypedDict):
    """One reading, in MiB; None is what cannot be known without psutil."""

    pyarrow_allocated_mb: float
    process_rss_mb: float | None
    system_available_mb: float | None


def release_unused_memory() -> None:
    """Collects garbage, then gives the free pages of Arrow's pool back to the system."""
    gc.collect()
    pa.default_memory_pool().release_unused()


def usage_level(used: float, limit: float | None) -> MemoryPressureLevel:
    """Level of a used amount against its limit: above 0.7 WARNING, above 0.9 CRITICAL, from 1.0 on EMERGENCY."""
    if limit is None:
        return MemoryPressureLevel.NORMAL
    ratio = used / limit
    if ratio >= EMERGENCY_RATIO:
        return MemoryPressureLevel.EMERGENCY
    if ratio > CRITICAL_RATIO:
        return MemoryPressureLevel.CRITICAL
    return MemoryPressureLevel.WARNING if ratio > WARNING_RATIO else MemoryPressureLevel.NORMAL


def available_level(available: float, minimum: float) -> MemoryPressureLevel:
    """Level of what is left: below twice the minimum WARNING, below 1.5 times CRITICAL, below the minimum EMERGENCY."""
    if available < EMERGENCY_AVAILABLE_FACTOR * minimum:
        return MemoryPressureLevel.EMERGENCY
    if available < CRITICAL_AVAILABLE_FACTOR * minimum:
        return MemoryPressureLevel.CRITICAL
    if available < WARNING_AVAILABLE_FACTOR * minimum:
        return MemoryPressureLevel.WARNING
    return MemoryPressureLevel.NORMAL


class MemoryMonitor:
    """Reads memory and judges it; the level is the worst of Arrow's pool, the process and the system.

    A container's limit counts as the system's memory. A reading is kept for 100 ms, so asking often costs little.
    Without psutil only Arrow's pool is judged. All limits are in MiB.

    Raises:
      ValueError: a limit is not above zero (min_system_available_mb may be zero: the system is then not judged).
    """

    def __init__(
        self,
        max_pyarrow_mb: float = 2048,
        max_process_memory_mb: float | None = None,
        min_system_available_mb: float = 512,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("max_pyarrow_mb", max_pyarrow_mb), ("max_process_memory_mb", max_process_memory_mb)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} MiB must be above 0; a usual value is 2048")
        if min_system_available_mb < 0:
            raise ValueError(f"min_system_available_mb={min_system_available_mb} MiB must be 0 or more; 512 is usual")
        self.max_pyarrow_mb = max_pyarrow_mb
        self.max_process_memory_mb = max_process_memory_mb
        self.min_system_available_mb = min_system_available_mb
        self._clock = clock
        self._psutil: ModuleType | None = import_psutil()
        self._process = self._psutil.Process() if self._psutil else None
        self._read: tuple[float, MemoryStatus] | None = None
        if self._psutil is None:
            _logger.warning("psutil not available; system memory thresholds will be ignored.")

    @classmethod
    def from_preset(cls, name: str) -> MemoryMonitor:
        """Limits by name.

        "conservative" is the constructor's defaults. "environment" (40 % for Arrow, 70 % for the process, 20 % to stay
        available) and "restrictive" (50, 80 and 10 %) are shares of the memory of the machine or container.

        Raises:
          ValueError: no such preset.
        """
        if name == "conservative":
            return cls()
        if name not in _PRESETS:
            raise ValueError(f"unknown memory preset {name!r}; use one of conservative, {', '.join(_PRESETS)}")
        total_mb = total_memory_bytes(import_psutil(), cgroup_limits()) / MB
        arrow, process, available = (share * total_mb for share in _PRESETS[name])
        return cls(arrow, process, available)

    def get_memory_status(self, *, fresh: bool = False) -> MemoryStatus:
        """The reading of the last 100 ms, or a new one; `fresh` asks for a new one."""
        now = self._clock()
        if fresh or self._read is None or now - self._read[0] >= STATUS_CACHE_SECONDS:
            self._read = (now, self._read_status())
        return self._read[1].copy()

    def check_memory_pressure(self, *, fresh: bool = False) -> MemoryPressureLevel:
        return max(self._levels(self.get_memory_status(fresh=fresh)).values())

    def should_check_memory(self, n: int, check_interval: int = 10) -> bool:
        """Whether the n-th item (from 0) of a loop is one to check memory at: the first of every check_interval.

        Raises:
          ValueError: check_interval is below 1.
        """
        if check_interval < 1:
            raise ValueError(f"check_interval={check_interval} must be at least 1 item")
        return n % check_interval == 0

    def get_detailed_status(self) -> dict[str, object]:
        """The reading, with limits, the level of each part and of the whole, for logs and reports."""
        status = self.get_memory_status()
        levels = self._levels(status)
        return {
            **status,
            "max_pyarrow_mb": self.max_pyarrow_mb,
            "max_process_memory_mb": self.max_process_memory_mb,
            "min_system_available_mb": self.min_system_available_mb,
            "pyarrow_ratio": status["pyarrow_allocated_mb"] / self.max_pyarrow_mb,
            "pyarrow_backend": pa.default_memory_pool().backend_name,
            "psutil_available": self._psutil is not None,
            "levels": {part: level.name for part, level in levels.items()},
            "pressure": max(levels.values()).name,
        }

    def _levels(self, status: MemoryStatus) -> Mapping[str, MemoryPressureLevel]:
        levels = {"pyarrow": usage_level(status["pyarrow_allocated_mb"], self.max_pyarrow_mb)}
        if status["process_rss_mb"] is not None:
            levels["process"] = usage_level(status["process_rss_mb"], self.max_process_memory_mb)
        if status["system_available_mb"] is not None:
            levels["system"] = available_level(status["system_available_mb"], self.min_system_available_mb)
        return levels

    def _read_status(self) -> MemoryStatus:
        rss = available = None
        if self._psutil is not None and self._process is not None:
            rss = self._process.memory_info().rss / MB
            available_bytes = available_memory_bytes(self._psutil, cgroup_limits())
            available = None if available_bytes is None else available_bytes / MB
        return MemoryStatus(
            pyarrow_allocated_mb=pa.total_allocated_bytes() / MB,
            process_rss_mb=rss,
            system_available_mb=available,
        )


def await_relief(
    monitor: MemoryMonitor,
    wait_seconds: float,
    *,
    release: Callable[[], None] = release_unused_memory,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Releases memory until the level is below EMERGENCY.

    Raises:
      MemoryError: it still is EMERGENCY after wait_seconds; the message has the reading and what to change.
    """
    end = clock() + wait_seconds
    while True:
        release()
        if monitor.check_memory_pressure(fresh=True) < MemoryPressureLevel.EMERGENCY:
            return
        left = end - clock()
        if left <= 0:
            raise MemoryError(
                f"memory is exhausted, and nothing was freed in {wait_seconds:g} s: {monitor.get_detailed_status()}; "
                "give the process more memory, work on smaller chunks or with fewer threads, "
                "or end what else uses the machine"
            )
        sleep(min(left, RELIEF_POLL_SECONDS))


class PerformanceMonitor:
    """Times named operations and notes the memory seen at their starts and ends.

    One thread's operations, one after the other or nested; not for sharing between threads.
    """

    def __init__(
        self, memory_monitor: MemoryMonitor | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._monitor = memory_monitor or MemoryMonitor()
        self._clock = clock
        self._started = clock()
        self._open: list[tuple[str, float]] = []
        self._seconds: dict[str, float] = {}
        self._levels = dict.fromkeys((level.name for level in MemoryPressureLevel), 0)
        self._peak: dict[str, float] = {"pyarrow_allocated_mb": 0.0, "process_rss_mb": 0.0}
        self._sample()

    def start_op(self, name: str) -> None:
        self._sample()
        self._open.append((name, self._clock()))

    def end_op(self) -> float:
        """Ends the operation started last; its seconds.

        Raises:
          RuntimeError: none is open.
        """
        if not self._open:
            raise RuntimeError("end_op without start_op")
        name, started = self._open.pop()
        seconds = self._clock() - started
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        self._sample()
        return seconds

    def get_metrics(self, rows_before: int, rows_after: int, total_bytes: int) -> dict[str, object]:
        """Figures since construction. MB are MiB; rates are 0.0 where no time passed; None needs psutil.

        Args:
          rows_before: rows read; the rate counts these.
          rows_after: rows that came out.
          total_bytes: bytes read.
        """
        status = self._sample()
        seconds = self._clock() - self._started
        return {
            "total_process_time_sec": seconds,
            "operation_seconds": dict(self._seconds),
            "rows_before": rows_before,
            "rows_after": rows_after,
            "memory_peak_mb": self._peak["pyarrow_allocated_mb"],
            "throughput_mb_sec": total_bytes / MB / seconds if seconds > 0 else 0.0,
            "rows_per_sec": rows_before / seconds if seconds > 0 else 0.0,
            "process_memory_peak_mb": self._peak["process_rss_mb"] if status["process_rss_mb"] is not None else None,
            "system_available_mb": status["system_available_mb"],
            "memory_pressure_stats": dict(self._levels),
        }

    def _sample(self) -> MemoryStatus:
        status = self._monitor.get_memory_status()
        self._levels[self._monitor.check_memory_pressure().name] += 1
        self._peak["pyarrow_allocated_mb"] = max(self._peak["pyarrow_allocated_mb"], status["pyarrow_allocated_mb"])
        self._peak["process_rss_mb"] = max(self._peak["process_rss_mb"], status["process_rss_mb"] or 0.0)
        return status
