"""The real Prism, built from Beam's Go module, with workers in this process and in a worker pool."""

import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from runners.prism import PRISM
from tests.flink_cluster import CACHE
from tests.processes import WorkerPool
from tests.worker_graph import GROUPS, run_graph, written

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NUMBERS = 500


@pytest.fixture(scope="module")
def prism() -> str:
    """The flag that names Prism of the same version as the installed Beam, built on first use."""
    version = metadata.version("apache-beam")
    folder = CACHE / f"prism-{version}"
    program = folder / "prism"
    if not program.exists():
        module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{version}"
        subprocess.run(["go", "install", module], env=os.environ | {"GOBIN": str(folder)}, check=True)
    return f"--prism_location={program}"


def expected_groups() -> list[list[int]]:
    return [list(range(group, NUMBERS, GROUPS)) for group in range(GROUPS)]


def test_workers_in_this_process(prism: str, tmp_path: Path) -> None:
    args = [prism]
    assert PRISM.check(args) == []
    run_graph(PRISM.options(args, 2), NUMBERS, tmp_path)
    assert written(tmp_path) == ({os.getpid()}, expected_groups())


def test_workers_in_a_pool(prism: str, tmp_path: Path) -> None:
    folder = tmp_path / "groups"
    folder.mkdir()
    with WorkerPool(tmp_path / "pool.log") as pool:
        args = [prism, "--environment_type=EXTERNAL", f"--environment_config={pool.address}"]
        assert PRISM.check(args) == []
        run_graph(PRISM.options(args, 2), NUMBERS, folder)
    pids, groups = written(folder)
    assert groups == expected_groups()
    assert os.getpid() not in pids
