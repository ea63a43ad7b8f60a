"""beam_etl.memory.monitor: exact bounds, the cache, containers, life without psutil, performance figures."""

import logging
import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

import beam_etl.memory.monitor
from beam_etl.memory.monitor import (
    MemoryMonitor,
    MemoryPressureLevel,
    PerformanceMonitor,
    available_level,
    await_relief,
    release_unused_memory,
    usage_level,
)
from beam_etl.memory.system import MB, CgroupLimit

NORMAL, WARNING, CRITICAL, EMERGENCY = MemoryPressureLevel


class Clock:
    """Time that passes only when told to, or by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Machine:
    """What the monitor reads, in MiB, and how often it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrow, self.rss, self.available, self.total, self.limits, self.reads = 0.0, 0.0, 1e6, 10_000, [], 0
        psutil = SimpleNamespace(
            Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=self.rss * MB)),
            virtual_memory=lambda: SimpleNamespace(available=self.available * MB, total=self.total * MB),
        )
        monkeypatch.setattr(beam_etl.memory.monitor, "import_psutil", lambda: psutil)
        monkeypatch.setattr(beam_etl.memory.monitor, "cgroup_limits", lambda: self.limits)
        monkeypatch.setattr(pa, "total_allocated_bytes", self.read_arrow)

    def read_arrow(self) -> float:
        self.reads += 1
        return self.arrow * MB


@pytest.fixture
def machine(monkeypatch) -> Machine:
    return Machine(monkeypatch)


USAGE_BOUNDS = [
    (0, NORMAL),
    (700, NORMAL),
    (700.001, WARNING),
    (900, WARNING),
    (900.001, CRITICAL),
    (999.999, CRITICAL),
    (1000, EMERGENCY),
    (1500, EMERGENCY),
]
AVAILABLE_BOUNDS = [
    (1024, NORMAL),
    (1023.999, WARNING),
    (768, WARNING),
    (767.999, CRITICAL),
    (512, CRITICAL),
    (511.999, EMERGENCY),
    (0, EMERGENCY),
]


@pytest.mark.parametrize("used, level", USAGE_BOUNDS)
def test_bounds_of_usage(machine, used, level):
    assert usage_level(used, 1000) is level
    machine.arrow = used
    assert MemoryMonitor(max_pyarrow_mb=1000).check_memory_pressure() is level
    machine.arrow, machine.rss = 0, used
    assert MemoryMonitor(max_process_memory_mb=1000).check_memory_pressure() is level
    assert MemoryMonitor().check_memory_pressure() is NORMAL


@pytest.mark.parametrize("available, level", AVAILABLE_BOUNDS)
def test_bounds_of_the_system(machine, available, level):
    assert available_level(available, 512) is level
    machine.available = available
    assert MemoryMonitor(min_system_available_mb=512).check_memory_pressure() is level
    machine.available, machine.limits = 1e6, [CgroupLimit(2000 * MB, int(available * MB))]
    assert MemoryMonitor(min_system_available_mb=512).check_memory_pressure() is level


@pytest.mark.parametrize("available", [0, 1])
def test_no_minimum_is_no_system_pressure(machine, available):
    machine.available = available
    assert MemoryMonitor(min_system_available_mb=0).check_memory_pressure() is NORMAL


@pytest.mark.parametrize(
    "arrow, rss, available, level",
    [
        (0, 0, 5000, NORMAL),
        (750, 0, 5000, WARNING),
        (750, 950, 5000, CRITICAL),
        (750, 950, 100, EMERGENCY),
        (1000, 0, 900, EMERGENCY),
        (0, 750, 600, CRITICAL),
    ],
)
def test_the_worst_of_the_three_counts(machine, arrow, rss, available, level):
    machine.arrow, machine.rss, machine.available = arrow, rss, available
    assert MemoryMonitor(1000, 1000, 512).check_memory_pressure() is level


def test_defaults():
    monitor = MemoryMonitor()
    limits = (monitor.max_pyarrow_mb, monitor.max_process_memory_mb, monitor.min_system_available_mb)
    assert limits == (2048, None, 512)
    assert [level.name for level in MemoryPressureLevel] == ["NORMAL", "WARNING", "CRITICAL", "EMERGENCY"]


def test_a_real_reading_follows_arrow():
    monitor = MemoryMonitor(max_pyarrow_mb=10_000)
    before = monitor.get_memory_status(fresh=True)
    buffer = pa.allocate_buffer(64 * MB)
    after = monitor.get_memory_status(fresh=True)
    assert set(after) == {"pyarrow_allocated_mb", "process_rss_mb", "system_available_mb"}
    assert after["pyarrow_allocated_mb"] - before["pyarrow_allocated_mb"] == pytest.approx(64, abs=0.01)
    assert after["process_rss_mb"] > 10 and after["system_available_mb"] > 10
    assert buffer.size == 64 * MB


def test_a_reading_is_kept_for_100_ms(machine):
    clock = Clock()
    monitor = MemoryMonitor(clock=clock)
    for now, reads in [(100.0, 1), (100.0999, 1), (100.1001, 2), (100.2, 2), (100.3, 3)]:
        clock.now = now
        monitor.get_memory_status()
        monitor.check_memory_pressure()
        assert machine.reads == reads
    monitor.check_memory_pressure(fresh=True)
    assert machine.reads == 4


def test_the_caller_s_copy_is_its_own(machine):
    monitor = MemoryMonitor()
    monitor.get_memory_status()["pyarrow_allocated_mb"] = 1e9
    assert monitor.check_memory_pressure() is NORMAL


@pytest.mark.parametrize("interval, checked", [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (10, [0])])
def test_should_check_memory(machine, interval, checked):
    monitor = MemoryMonitor()
    assert [n for n in range(5) if monitor.should_check_memory(n, interval)] == checked


def test_should_check_memory_every_tenth_by_default(machine):
    assert [n for n in range(31) if MemoryMonitor().should_check_memory(n)] == [0, 10, 20, 30]
    with pytest.raises(ValueError, match="check_interval=0"):
        MemoryMonitor().should_check_memory(3, 0)


def test_detailed_status(machine):
    machine.arrow, machine.rss, machine.available = 800, 10, 700
    detailed = MemoryMonitor(1000, None, 512).get_detailed_status()
    assert detailed == {
        "pyarrow_allocated_mb": 800,
        "process_rss_mb": 10,
        "system_available_mb": 700,
        "max_pyarrow_mb": 1000,
        "max_process_memory_mb": None,
        "min_system_available_mb": 512,
        "pyarrow_ratio": 0.8,
        "pyarrow_backend": pa.default_memory_pool().backend_name,
        "psutil_available": True,
        "levels": {"pyarrow": "WARNING", "process": "NORMAL", "system": "CRITICAL"},
        "pressure": "CRITICAL",
    }


@pytest.mark.parametrize(
    "name, total_mb, limits, expected",
    [
        ("conservative", 10_000, [], (2048, None, 512)),
        ("environment", 10_000, [], (4000, 7000, 2000)),
        ("restrictive", 10_000, [], (5000, 8000, 1000)),
        ("environment", 10_000, [CgroupLimit(1000 * MB, 500 * MB)], (400, 700, 200)),
    ],
)
def test_presets(machine, name, total_mb, limits, expected):
    machine.total, machine.limits = total_mb, limits
    monitor = MemoryMonitor.from_preset(name)
    found = (monitor.max_pyarrow_mb, monitor.max_process_memory_mb, monitor.min_system_available_mb)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: MemoryMonitor(max_pyarrow_mb=0), "max_pyarrow_mb=0"),
        (lambda: MemoryMonitor(max_process_memory_mb=-1), "max_process_memory_mb=-1"),
        (lambda: MemoryMonitor(min_system_available_mb=-1), "min_system_available_mb=-1"),
        (lambda: MemoryMonitor.from_preset("lavish"), "conservative, environment, restrictive"),
    ],
)
def test_wrong_limits_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_without_psutil_arrow_is_still_judged(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(beam_etl.memory.monitor, "cgroup_limits", lambda: [CgroupLimit(1000 * MB, 1)])
    monkeypatch.setattr(pa, "total_allocated_bytes", lambda: 950 * MB)
    with caplog.at_level(logging.WARNING):
        monitor = MemoryMonitor(1000, 1, 512)
    assert caplog.messages == ["psutil not available; system memory thresholds will be ignored."]
    assert monitor.get_memory_status() == {
        "pyarrow_allocated_mb": 950,
        "process_rss_mb": None,
        "system_available_mb": None,
    }
    assert monitor.check_memory_pressure() is CRITICAL
    assert monitor.get_detailed_status()["psutil_available"] is False
    metrics = PerformanceMonitor(monitor).get_metrics(1, 1, 1)
    assert (metrics["process_memory_peak_mb"], metrics["system_available_mb"]) == (None, None)


def test_release_gives_cycles_back():
    cycle: list[object] = [pa.allocate_buffer(8 * MB)]
    cycle.append(cycle)
    before = pa.total_allocated_bytes()
    del cycle
    release_unused_memory()
    assert before - pa.total_allocated_bytes() >= 8 * MB


def test_relief_waits_until_the_pressure_falls(machine):
    clock, releases = Clock(), []
    machine.arrow = 3000

    def release() -> None:
        releases.append(clock.now)
        machine.arrow = 2000 if len(releases) == 4 else 3000

    await_relief(MemoryMonitor(clock=clock), 10, release=release, clock=clock, sleep=clock.sleep)
    assert releases == [100.0, 100.25, 100.5, 100.75]


def test_relief_gives_up_in_time_with_advice(machine):
    clock = Clock()
    machine.arrow = 3000
    with pytest.raises(MemoryError, match=r"nothing was freed in 10 s.*'pyarrow': 'EMERGENCY'.*smaller chunks"):
        await_relief(MemoryMonitor(clock=clock), 10, release=lambda: None, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(110)


def test_performance_figures(machine):
    clock = Clock()
    monitor = PerformanceMonitor(MemoryMonitor(1000, 1000, 512, clock=clock), clock=clock)
    machine.arrow, machine.rss = 750, 300
    for name, seconds in [("read", 2.0), ("write", 1.0), ("read", 1.0)]:
        clock.now += 0.5
        monitor.start_op(name)
        clock.now += seconds
        assert monitor.end_op() == seconds
    machine.arrow, machine.rss = 100, 950
    clock.now += 0.5
    metrics = monitor.get_metrics(rows_before=1200, rows_after=1000, total_bytes=12 * MB)
    assert metrics == {
        "total_process_time_sec": 6.0,
        "operation_seconds": {"read": 3.0, "write": 1.0},
        "rows_before": 1200,
        "rows_after": 1000,
        "memory_peak_mb": 750,
        "throughput_mb_sec": 2.0,
        "rows_per_sec": 200.0,
        "process_memory_peak_mb": 950,
        "system_available_mb": 1e6,
        "memory_pressure_stats": {"NORMAL": 1, "WARNING": 6, "CRITICAL": 1, "EMERGENCY": 0},
    }


def test_performance_figures_of_nothing(machine):
    clock = Clock()
    monitor = PerformanceMonitor(MemoryMonitor(clock=clock), clock=clock)
    metrics = monitor.get_metrics(0, 0, 0)
    assert (metrics["throughput_mb_sec"], metrics["rows_per_sec"], metrics["total_process_time_sec"]) == (0.0, 0.0, 0.0)
    with pytest.raises(RuntimeError, match="end_op without start_op"):
        monitor.end_op()
