"""The real Flink cluster of these tests: it starts, runs a batch job, and gets over the loss of a TaskManager."""

from pathlib import Path

import pytest

from tests.flink_cluster import FlinkCluster
from tests.processes import poll

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NUMBERS = 500
ROWS_PER_SECOND = 50


def count_numbers(cluster: FlinkCluster, output: Path) -> str:
    """Starts a job that takes some ten seconds: NUMBERS rows through a shuffle into files; returns its id."""
    numbers = f"'number-of-rows'='{NUMBERS}', 'fields.n.kind'='sequence', 'fields.n.start'='0', 'fields.n.end'='{NUMBERS - 1}'"
    return cluster.run_sql(
        "CREATE TABLE numbers (n BIGINT) WITH "
        f"('connector'='datagen', 'rows-per-second'='{ROWS_PER_SECOND}', {numbers})",
        "CREATE TABLE counted (n BIGINT, times BIGINT) WITH "
        f"('connector'='filesystem', 'path'='file://{output}', 'format'='csv')",
        "INSERT INTO counted SELECT n, COUNT(*) FROM numbers GROUP BY n",
    )


def running_tasks(cluster: FlinkCluster, job: str) -> int:
    return sum(vertex["tasks"]["RUNNING"] for vertex in cluster.get(f"/jobs/{job}")["vertices"])


def counted(output: Path) -> list[tuple[int, int]]:
    lines = [line for path in output.rglob("*") if path.is_file() for line in path.read_text().split()]
    return sorted((int(number), int(times)) for number, times in (line.split(",") for line in lines))


def test_a_job_gets_over_the_loss_of_a_taskmanager(tmp_path: Path) -> None:
    with FlinkCluster(tmp_path) as cluster:
        job = count_numbers(cluster, tmp_path / "output")
        poll("tasks on both TaskManagers", lambda: running_tasks(cluster, job) >= 2, seconds=60)
        cluster.kill_taskmanager(0)
        cluster.start_taskmanager(0)
        poll(
            "the job to notice", lambda: cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] != [], 60
        )
        poll("the job to end", lambda: cluster.job_state(job) in ("FINISHED", "FAILED", "CANCELED"), seconds=120)
        assert cluster.job_state(job) == "FINISHED"
    assert counted(tmp_path / "output") == [(number, 1) for number in range(NUMBERS)]
