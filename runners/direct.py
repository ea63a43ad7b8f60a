"""This machine: Beam's in-process FnApiRunner with one worker thread a core.

`DirectRunner` here never means Beam's class of that name: in 2.77 that one first tries to download and start Prism. The
threads of one process suffice, because the kernels, Arrow and libpq release the GIL, and they start in no time.

How the runner deals work out, which `static_lanes` speaks of: before it starts the threads of a stage it partitions
the whole input. After a GroupByKey the k-th distinct key, in the order of first arrival, goes to thread k modulo n
(`GroupingBuffer.partition` in Beam), whatever the size of its group. So a `Reshuffle` deals elements out by number, not
by work; but elements keyed by a lane number 0..n-1 and grouped (`ReshufflePerKey`, `GroupByKey`) have at most n keys,
and each thread gets exactly one lane. Who balances the lanes by bytes balances the threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from runners.place import Place, filled_in, flag_value, whole_number_problem

_RUNNING_MODES = ("in_memory", "multi_threading", "multi_processing")
_TIME_LIMIT_NAME = "DATA_BUFFER_TIME_LIMIT_MS"


def options(args: Sequence[str], cores: int) -> list[str]:
    """FnApiRunner with as many threads as cores."""
    defaults = {"direct_running_mode": "multi_threading", "direct_num_workers": str(cores)}
    return filled_in(args, "FnApiRunner", defaults)


def check(args: Sequence[str]) -> list[str]:
    """Problems in --direct_num_workers and --direct_running_mode."""
    problems = whole_number_problem(
        args, "direct_num_workers", 0, "give the number of threads, 0 for one a core, or leave the flag out."
    )
    mode = flag_value(args, "direct_running_mode")
    if mode is not None and mode not in _RUNNING_MODES:
        choices = ", ".join(_RUNNING_MODES)
        problems.append(f"--direct_running_mode={mode} is unknown: give one of {choices}, or leave the flag out.")
    return problems


def static_lanes(args: Sequence[str], cores: int) -> int:
    """Number of worker threads: --direct_num_workers, where 0 means one a core."""
    value = flag_value(args, "direct_num_workers")
    if value is None:
        return cores
    return int(value) or os.cpu_count() or 1


def switch_off_timed_flush() -> None:
    """Makes the runner flush its data streams by size only.

    FnApiRunner sets a timer of 1000 ms on each of its streams, and the timer's thread takes the buffer away while the
    worker's thread is writing an element into it, without a lock between them (`flush` and `write` in Beam 2.77's
    `data_plane.TimeBasedBufferingClosableOutputStream`). A bundle that lasts more than a second can thus lose an
    element or cut it in two. With a limit of 0, the default on Flink and Dataflow, only the writing thread flushes.
    The limit is a constant of the runner's module that is read when a runner starts, and no option reaches it.

    Raises:
        RuntimeError: this version of Beam keeps the limit elsewhere, so that nobody knows whether local runs are safe.
    """
    # Imported here: what names a runner in --help must not wait seconds for Beam.
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.version import __version__ as beam_version

    if not isinstance(getattr(worker_handlers, _TIME_LIMIT_NAME, None), int):
        raise RuntimeError(
            f"Beam {beam_version} has no {_TIME_LIMIT_NAME} in {worker_handlers.__name__}, so its unsafe timed flush "
            "cannot be switched off and a local run could corrupt data: install apache-beam 2.77, or choose another "
            "--runner."
        )
    setattr(worker_handlers, _TIME_LIMIT_NAME, 0)


DIRECT = Place(
    name="DirectRunner",
    summary="this machine, one thread a core (default)",
    options=options,
    check=check,
    static_lanes=static_lanes,
    prepare=switch_off_timed_flush,
)
