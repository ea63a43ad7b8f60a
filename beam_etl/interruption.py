"""SIGTERM and Ctrl-C end a load within a second, and leave nothing behind but staging that the same command resumes.

Threads inside Arrow, numba or libpq cannot be interrupted, and those of the runner would be waited for. So nobody is:
a watcher thread, woken by the signal itself whatever the main thread is doing, gives up leases, cancels what runs in
PostgreSQL, deletes the files that are half written, each within a deadline, and ends the process. What was committed
stays, as after a kill, and what was under way is as if it had never begun.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from beam_etl.exit_codes import FAILED
from beam_etl.terminal import complain

# For all steps together; a second has to suffice for the whole way out.
STEPS_SECONDS = 0.7

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_stopping = threading.Event()
_steps: list[Callable[[], object]] = []


@contextlib.contextmanager
def on_interruption(step: Callable[[], object]) -> Iterator[None]:
    """While the block runs, an interruption calls `step` before the process ends; the latest step goes first."""
    _steps.append(step)
    try:
        yield
    finally:
        _steps.remove(step)


def pause_if_stopping() -> None:
    """To be called before something new is begun: in a process that is about to end it never is."""
    if _stopping.is_set():
        threading.Event().wait()


@contextlib.contextmanager
def end_quickly(last_steps: tuple[Callable[[], object], ...]) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT end this process within about a second, by exit code 4.

    Args:
      last_steps: called, in this order, when the process begins nothing new any more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_watch, args=(reader, last_steps), name="interruption", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    # The C handler writes the signal's number, so the watcher wakes even while the main thread is in a long call.
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int, last_steps: tuple[Callable[[], object], ...]) -> None:
    while received := os.read(reader, 1):
        if received[0] in SIGNALS:
            _end(last_steps)


def _end(last_steps: tuple[Callable[[], object], ...]) -> None:
    deadline = time.monotonic() + STEPS_SECONDS
    try:
        complain("interrupted; run the same command again to resume")
        for step in reversed(_steps):
            _run(step, deadline - STEPS_SECONDS / 2)
        _stopping.set()
        for step in last_steps:
            _run(step, deadline)
    finally:
        os._exit(FAILED)


def _run(step: Callable[[], object], deadline: float) -> None:
    """Waits for a step no longer than until the deadline: a server that does not answer keeps nobody."""

    def quietly() -> None:
        with contextlib.suppress(Exception):  # what could not be given up runs out, or is collected later
            step()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
