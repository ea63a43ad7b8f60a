"""beam_etl.memory.budget: never above the limit, fair, bounded, and nothing stays reserved."""

import contextlib
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_etl.memory.budget
from beam_etl.memory.budget import MIN_BUDGET_BYTES, MemoryBudget, Reservation, default_budget_bytes
from beam_etl.memory.system import MB, CgroupLimit

PLENTY = 10**15


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        threading.Event().wait(0.001)


class Caller(threading.Thread):
    """A thread that reserves, then holds until told to leave."""

    def __init__(self, budget: MemoryBudget, size: int, deadline_seconds: float = 20, alone: bool = False):
        super().__init__(daemon=True)
        self.budget, self.size, self.deadline_seconds, self.alone = budget, size, deadline_seconds, alone
        self.inside, self.leave = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.reservation: Reservation | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.budget.reserve(self.size, self.deadline_seconds, alone=self.alone) as self.reservation:
                self.inside.set()
                assert self.leave.wait(20)
        except MemoryError as error:
            self.error = error

    def end(self) -> None:
        self.leave.set()
        self.join(20)
        assert not self.is_alive()


@contextlib.contextmanager
def callers(*people: Caller) -> Iterator[None]:
    try:
        yield
    finally:
        for person in people:
            person.end()


def entered(budget: MemoryBudget, size: int, **knobs) -> Caller:
    caller = Caller(budget, size, **knobs)
    assert caller.inside.wait(20)
    return caller


def queued(budget: MemoryBudget, size: int, **knobs) -> Caller:
    before = budget.waiting
    caller = Caller(budget, size, **knobs)
    until(lambda: budget.waiting == before + 1, "the caller in the queue")
    return caller


def test_bytes_are_held_and_given_back():
    budget = MemoryBudget(100)
    with budget.reserve(70, 1) as reservation:
        assert (reservation.bytes, reservation.wait_seconds, budget.reserved_bytes, budget.holders) == (70, 0.0, 70, 1)
    reservation.release()
    assert (budget.reserved_bytes, budget.holders, budget.stats.waits, budget.stats.peak_bytes) == (0, 0, 0, 70)


def test_an_error_inside_gives_them_back():
    budget = MemoryBudget(100)
    with pytest.raises(OSError), budget.reserve(70, 1):
        raise OSError
    assert budget.holders == 0


@pytest.mark.parametrize(
    "first, second, fits",
    [
        (60, 40, True),
        (60, 41, False),
        (80, 20, True),
        (81, 1, False),  # above 80 %: nothing beside it
        (1, 81, False),
        (80, 0, True),
        (81, 0, False),
        (100, 1, False),
        (150, 1, False),
    ],
)
def test_who_fits_beside_whom(first, second, fits):
    budget = MemoryBudget(100, available_bytes=lambda: PLENTY)
    one = entered(budget, first)
    two = entered(budget, second) if fits else queued(budget, second)
    with callers(one, two):
        assert two.inside.is_set() is fits
        assert budget.reserved_bytes == (first + second if fits else first)
        one.end()
        assert two.inside.wait(20)
    assert budget.stats.waits == (0 if fits else 1)
    assert (budget.stats.wait_seconds > 0) is (not fits)
    assert (two.reservation.wait_seconds > 0) is (not fits)


@pytest.mark.parametrize("first_alone, second_alone", [(True, False), (False, True), (True, True)])
def test_alone_means_alone(first_alone, second_alone):
    budget = MemoryBudget(100)
    one = entered(budget, 1, alone=first_alone)
    two = queued(budget, 1, alone=second_alone)
    with callers(one, two):
        assert not two.inside.is_set()
        one.end()
        assert two.inside.wait(20)


def test_a_big_request_is_not_overtaken():
    budget = MemoryBudget(100)
    holder = entered(budget, 50)
    big = queued(budget, 80)
    small = queued(budget, 30)  # would fit beside the holder
    with callers(holder, big, small):
        assert not small.inside.is_set()
        holder.end()
        assert big.inside.wait(20)
        assert not small.inside.is_set()
        big.end()
        assert small.inside.wait(20)


def test_who_gives_up_makes_room_for_the_next():
    budget = MemoryBudget(100)
    holder = entered(budget, 50)
    big = queued(budget, 80, deadline_seconds=0.3)
    small = queued(budget, 30)
    with callers(holder, big, small):
        assert small.inside.wait(20)
        until(lambda: big.error is not None, "the deadline of the big request")
        assert holder.is_alive()


def test_the_deadline_is_kept_with_advice():
    budget = MemoryBudget(100 * MB)
    with callers(entered(budget, 70 * MB)):
        start = time.monotonic()
        with pytest.raises(
            MemoryError, match=r"waited 0.1 s for 40.0 MB of a memory budget of 100.0 MB; 1 other calls"
        ):
            budget.reserve(40 * MB, 0.1)
        assert 0.1 <= time.monotonic() - start < 10
        assert (budget.waiting, budget.reserved_bytes, budget.stats.waits) == (0, 70 * MB, 1)
        with pytest.raises(MemoryError, match="lower chunk_bytes"):
            budget.reserve(40 * MB, 0)


@pytest.mark.parametrize(
    "size, available, granted",
    [
        (150, 150, True),
        (150, 149, False),
        (150, None, True),  # nothing tells
        (90, 89, False),
        (80, 0, True),  # an ordinary request is the budget's business alone
    ],
)
def test_a_large_request_must_fit_the_system(size, available, granted):
    budget = MemoryBudget(100, available_bytes=lambda: available)
    if granted:
        with budget.reserve(size, 1):
            assert budget.reserved_bytes == size
    else:
        with pytest.raises(MemoryError, match=r"a single call needs about .* lower chunk_bytes"):
            budget.reserve(size, 1)
    assert (budget.holders, budget.waiting) == (0, 0)


def test_unused_memory_is_released_before_a_large_request_is_refused(monkeypatch):
    available = iter([100, 150])
    released = []
    monkeypatch.setattr(beam_etl.memory.budget, "release_unused_memory", lambda: released.append(True))
    with MemoryBudget(100, available_bytes=lambda: next(available)).reserve(150, 1):
        assert released == [True]


def test_a_thread_never_waits_for_itself():
    budget = MemoryBudget(100)
    with budget.reserve(80, 1):
        waiting = queued(budget, 50)
        with budget.reserve(80, 1, alone=True) as inner:
            assert (inner.wait_seconds, budget.reserved_bytes, budget.holders) == (0.0, 80, 2)
    with callers(waiting):
        assert waiting.inside.wait(20)


def test_a_call_lost_in_a_cycle_is_found_before_the_deadline_strikes():
    budget = MemoryBudget(100)

    def call() -> Iterator[None]:
        with budget.reserve(80, 1):
            yield

    def lose() -> None:
        cycle: list[object] = [call()]
        cycle.append(cycle)
        next(cycle[0])

    gc.disable()
    try:
        thread = threading.Thread(target=lose)
        thread.start()
        thread.join()
        assert budget.reserved_bytes == 80
        with budget.reserve(50, 0.1):
            assert budget.reserved_bytes == 50
    finally:
        gc.enable()


def test_release_from_another_thread():
    budget = MemoryBudget(100)
    reservation = budget.reserve(80, 1)
    thread = threading.Thread(target=reservation.release)
    thread.start()
    thread.join(20)
    assert budget.holders == 0


@pytest.mark.parametrize("call", [lambda: MemoryBudget(0), lambda: MemoryBudget(1).reserve(-1, 1)])
def test_wrong_sizes_are_refused(call):
    with pytest.raises(ValueError):
        call()


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(1, 1000),
    sizes=st.lists(st.lists(st.tuples(st.integers(0, 1500), st.booleans()), max_size=20), min_size=2, max_size=8),
    seed=st.integers(0, 2**32),
)
def test_threads_hammering_it_never_exceed_it(limit, sizes, seed):
    budget = MemoryBudget(limit, available_bytes=lambda: PLENTY)
    lock, inside, errors = threading.Lock(), [], []
    calls = 0

    def work(requests: list[tuple[int, bool]], dice: random.Random) -> None:
        nonlocal calls
        for size, alone in requests:
            try:
                reservation = budget.reserve(size, 30, alone=alone)
            except MemoryError as error:
                errors.append(str(error))
                return
            with lock:
                inside.append((size, alone or size > 0.8 * limit))
                if sum(s for s, _ in inside) > limit and len(inside) > 1:
                    errors.append(f"above the limit {limit}: {inside}")
                if len(inside) > 1 and any(exclusive for _, exclusive in inside):
                    errors.append(f"not alone: {inside}")
                calls += 1
            for _ in range(dice.randrange(200)):
                pass
            with lock:
                inside.remove((size, alone or size > 0.8 * limit))
            reservation.release()

    threads = [threading.Thread(target=work, args=(s, random.Random(seed + i))) for i, s in enumerate(sizes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    assert (calls, budget.holders, budget.waiting, budget.reserved_bytes) == (sum(map(len, sizes)), 0, 0, 0)


@pytest.mark.parametrize(
    "total_mb, available_mb, limits, processes, expected_mb",
    [
        (10_000, 9_000, [], 1, 6_000),  # 60 % of the total
        (10_000, 5_000, [], 1, 4_000),  # 80 % of what is free
        (10_000, 9_000, [], 4, 1_500),
        (10_000, 9_000, [CgroupLimit(1_000 * MB, 1_000 * MB)], 1, 600),
        (10_000, 9_000, [CgroupLimit(1_000 * MB, 500 * MB)], 1, 400),
        (10_000, 10, [], 1, 64),
    ],
)
def test_default_budget(monkeypatch, total_mb, available_mb, limits, processes, expected_mb):
    class Psutil:
        class Memory:
            total, available = total_mb * MB, available_mb * MB

        virtual_memory = Memory

    monkeypatch.setattr(beam_etl.memory.budget, "import_psutil", lambda: Psutil)
    monkeypatch.setattr(beam_etl.memory.budget, "cgroup_limits", lambda: limits)
    assert default_budget_bytes(processes) == expected_mb * MB


def test_default_budget_without_psutil(monkeypatch):
    monkeypatch.setattr(beam_etl.memory.budget, "import_psutil", lambda: None)
    monkeypatch.setattr(beam_etl.memory.budget, "cgroup_limits", list)
    assert default_budget_bytes() > MIN_BUDGET_BYTES
    with pytest.raises(ValueError, match="processes=0"):
        default_budget_bytes(0)
