"""beam_etl.memory.gate: what each level of pressure makes of a call."""

import threading
from collections import Counter

import pytest

import beam_etl.memory.gate
from beam_etl.memory.budget import MemoryBudget
from beam_etl.memory.gate import MemoryGate, monitor_for, process_gate
from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel
from beam_etl.memory.system import MB, CgroupLimit

NORMAL, WARNING, CRITICAL, EMERGENCY = MemoryPressureLevel


class Pressure(MemoryMonitor):
    """A monitor that reports given levels one after the other, the last one for ever."""

    def __init__(self, *levels: MemoryPressureLevel):
        super().__init__()
        self.levels = list(levels)

    def check_memory_pressure(self, *, fresh: bool = False) -> MemoryPressureLevel:
        return self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]


class Gate(MemoryGate):
    """A gate with its own time and books."""

    def __init__(self, *levels: MemoryPressureLevel, limit: int = 100):
        self.now, self.counts = 0.0, Counter()
        super().__init__(
            MemoryBudget(limit),
            Pressure(*levels),
            deadline_seconds=20,
            emergency_wait_seconds=10,
            release=lambda: None,
            clock=lambda: self.now,
            sleep=self.pass_time,
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def call(self, size: int):
        return self.enter(size, lambda name, amount: self.counts.update({name: amount}))


@pytest.mark.parametrize(
    "levels, counts, alone",
    [
        ([NORMAL], {}, False),
        ([WARNING, NORMAL], {"warnings": 1, "releases": 1}, False),
        ([WARNING, WARNING], {"warnings": 1, "releases": 1}, False),
        ([CRITICAL, CRITICAL], {"criticals": 1, "releases": 1}, True),
        ([CRITICAL, WARNING], {"criticals": 1, "releases": 1}, False),  # the release helped
        ([EMERGENCY, CRITICAL], {"emergencies": 1, "releases": 1}, True),
        ([EMERGENCY, EMERGENCY, CRITICAL], {"emergencies": 1, "releases": 2}, True),
        ([EMERGENCY, EMERGENCY, EMERGENCY, NORMAL], {"emergencies": 1, "releases": 3}, True),
    ],
)
def test_reactions(levels, counts, alone):
    gate = Gate(*levels)
    with gate.call(10):
        assert gate.counts == counts
        assert [held.alone for held in gate.budget._held.values()] == [alone]
    assert gate.budget.holders == 0


def test_an_emergency_that_stays_is_an_error_and_leaves_nothing_reserved():
    gate = Gate(EMERGENCY)
    with pytest.raises(MemoryError, match="nothing was freed in 10 s"):
        gate.call(10)
    assert (gate.now, gate.budget.holders, gate.budget.waiting) == (10.0, 0, 0)
    assert gate.counts == {"emergencies": 1, "releases": 42}


def test_releases_are_spared_below_emergency():
    gate = Gate(WARNING)
    for now, releases in [(0.0, 1), (0.9, 1), (1.0, 2), (1.5, 2)]:
        gate.now = now
        gate.call(1).release()
        assert gate.counts["releases"] == releases
    assert gate.counts["warnings"] == 4


class Caller(threading.Thread):
    def __init__(self, gate: Gate, size: int):
        super().__init__(daemon=True)
        self.gate, self.size, self.inside, self.leave = gate, size, threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.gate.call(self.size):
            self.inside.set()
            assert self.leave.wait(20)


def wait_for_queue(gate: Gate, length: int) -> None:
    for _ in range(20_000):
        if gate.budget.waiting == length:
            return
        threading.Event().wait(0.001)
    raise AssertionError("nobody came to the queue")


@pytest.mark.parametrize(
    "later, counts",
    [
        ([NORMAL], {}),
        ([WARNING], {"warnings": 1, "releases": 1}),
        # Nobody else is inside when the pressure is looked at again, so the emergency is waited for alone.
        ([EMERGENCY, EMERGENCY, NORMAL], {"emergencies": 1, "releases": 2}),
    ],
)
def test_the_pressure_is_looked_at_again_after_a_wait(later, counts):
    gate = Gate(NORMAL, NORMAL, *later)
    first = Caller(gate, 60)
    assert first.inside.wait(20)
    second = Caller(gate, 60)
    wait_for_queue(gate, 1)
    assert not second.inside.is_set()
    first.leave.set()
    assert second.inside.wait(20)
    second.leave.set()
    second.join(20)
    milliseconds = gate.counts.pop("wait_milliseconds")
    assert milliseconds == round(gate.budget.stats.wait_seconds * 1000)
    assert gate.counts == {"waits": 1, **counts}
    assert gate.budget.holders == 0


def test_an_emergency_after_a_wait_also_waits_for_the_others():
    gate = Gate(NORMAL, NORMAL, NORMAL, EMERGENCY, EMERGENCY, NORMAL)
    large, small = Caller(gate, 60), Caller(gate, 30)
    assert large.inside.wait(20) and small.inside.wait(20)
    third = Caller(gate, 40)
    wait_for_queue(gate, 1)
    large.leave.set()
    large.join(20)
    # There is room beside the small call now, but with the pressure found then, only for one alone.
    wait_for_queue(gate, 1)
    assert not third.inside.wait(0.1)
    small.leave.set()
    assert third.inside.wait(20)
    assert [held.alone for held in gate.budget._held.values()] == [True]
    third.leave.set()
    third.join(20)
    assert gate.counts["waits"] == 2
    assert (gate.counts["emergencies"], gate.counts["releases"], gate.budget.holders) == (1, 2, 0)


def test_critical_calls_run_one_at_a_time():
    gate = Gate(CRITICAL)
    people = [Caller(gate, 1) for _ in range(5)]
    for left in range(4, -1, -1):
        wait_for_queue(gate, left)
        (inside,) = (person for person in people if person.inside.is_set())
        people.remove(inside)
        inside.leave.set()
        inside.join(20)
    assert gate.counts["criticals"] >= 5


def test_one_gate_a_process(monkeypatch):
    monkeypatch.setattr(beam_etl.memory.gate, "_gates", {})
    gates, barrier = [], threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        gates.append(process_gate(64))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(gates)) == 1
    assert gates[0].budget.limit_bytes == 64 * MB
    assert process_gate("auto") is process_gate("auto") is not gates[0]
    assert process_gate("auto").budget.limit_bytes > process_gate("auto", 2).budget.limit_bytes


@pytest.mark.parametrize(
    "total_mb, min_available_mb", [(100_000, 512), (10_240, 512), (2_000, 100)], ids=["big", "even", "small"]
)
def test_the_monitor_leaves_room_for_a_full_budget(monkeypatch, total_mb, min_available_mb):
    monkeypatch.setattr(beam_etl.memory.gate, "import_psutil", lambda: None)
    monkeypatch.setattr(beam_etl.memory.gate, "cgroup_limits", lambda: [CgroupLimit(total_mb * MB, 0)])
    monkeypatch.setattr(beam_etl.memory.gate, "total_memory_bytes", lambda _, limits: limits[0].limit_bytes)
    monitor = monitor_for(1000 * MB)
    assert (monitor.max_pyarrow_mb, monitor.max_process_memory_mb) == (1500, None)
    assert monitor.min_system_available_mb == min_available_mb
