"""Which pool Arrow allocates from is told by a process of its own, because a pool stays chosen."""

import os
import subprocess
import sys

import pyarrow as pa
import pytest

SCRIPT = """
import pyarrow as pa
from beam_etl.memory.arrow_pool import use_frugal_pool
use_frugal_pool()
use_frugal_pool()
buffer = pa.allocate_buffer(1 << 20)
print(pa.default_memory_pool().backend_name, pa.total_allocated_bytes() >= 1 << 20)
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [(None, "jemalloc" if "jemalloc" in pa.supported_memory_backends() else "mimalloc"), ("system", "system")],
)
def test_arrow_allocates_from_the_frugal_pool_unless_another_is_chosen(chosen: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if chosen:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = chosen
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "True"]
