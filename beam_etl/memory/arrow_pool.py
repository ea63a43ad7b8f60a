"""Where Arrow's memory comes from in a worker process."""

from __future__ import annotations

import os

import pyarrow as pa

# Arrow's own variable: who sets it has chosen.
CHOICE = "ARROW_DEFAULT_MEMORY_POOL"


def use_frugal_pool() -> None:
    """Makes Arrow allocate from jemalloc, where this build of Arrow has it and the user has chosen nothing else.

    mimalloc, Arrow's default, keeps what a chunk's buffers occupied: landing 766 MB in chunks of 32 MiB on two threads,
    the process peaks at 650 MiB with it, at 605 MiB with jemalloc, and spends a third less time in the kernel.
    Idempotent; buffers that are already allocated stay where they are.
    """
    if CHOICE not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
