"""An Apache Flink cluster, or Flink inside the job server on this machine.

No Beam graph has been run on Flink with these options yet, because the job server was not obtainable where this project
is tested: the flags are checked against Beam's own option classes, and nothing more.

How the parts hang together: this program hands the graph to Beam's *job server* (a Java program, one for each
version of Flink), which turns it into a Flink job and submits that to --flink_master. Each TaskManager then asks the
*environment* for Python workers: LOOPBACK calls back to this very process (development), EXTERNAL asks a worker pool
beside each TaskManager (`python -m apache_beam.runners.worker.worker_pool_main`), PROCESS starts a command on the
TaskManager's machine. Restarts belong to the cluster's configuration (`restart-strategy.type`): without one, Flink
fails a batch job at its first lost TaskManager.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runners.place import Place, filled_in, flag_value, whole_number_problem

_IN_JOB_SERVER = ("[auto]", "[local]")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ENVIRONMENTS = ("LOOPBACK", "EXTERNAL", "PROCESS", "DOCKER")
_POOL_REMEDY = (
    "--environment_type=EXTERNAL --environment_config=localhost:50000, with a worker pool "
    "(python -m apache_beam.runners.worker.worker_pool_main --service_port=50000) beside each TaskManager"
)


def options(args: Sequence[str], cores: int) -> list[str]:
    """On this machine: workers in this process, one slot a core. On a cluster: nothing but the runner's name."""
    defaults = {"environment_type": "LOOPBACK", "parallelism": str(cores)} if _on_this_machine(args) else {}
    return filled_in(args, "FlinkRunner", defaults)


def check(args: Sequence[str]) -> list[str]:
    """Problems with the job server, with where the Python workers come from, and with the parallelism."""
    return _job_server_problems(args) + _environment_problems(args) + _parallelism_problems(args)


def _job_server_problems(args: Sequence[str]) -> list[str]:
    jar = flag_value(args, "flink_job_server_jar")
    remedy = (
        "fetch it with `mvn dependency:get -Dtransitive=false "
        "-Dartifact=org.apache.beam:beam-runners-flink-<Flink version>-job-server:<version of apache-beam>`"
    )
    if flag_value(args, "job_endpoint"):
        return []
    if jar is None:
        return [
            "FlinkRunner needs Beam's job server: give --job_endpoint=HOST:PORT of a running one, or "
            f"--flink_job_server_jar=FILE ({remedy})."
        ]
    if "://" not in jar and not Path(jar).is_file():
        return [f"--flink_job_server_jar={jar} is not a file: {remedy}."]
    return []


def _environment_problems(args: Sequence[str]) -> list[str]:
    environment = flag_value(args, "environment_type")
    config = flag_value(args, "environment_config")
    if environment is None:
        on_cluster = [f"a Flink cluster must be told where its Python workers come from: give {_POOL_REMEDY}."]
        return [] if _on_this_machine(args) else on_cluster
    if environment not in _ENVIRONMENTS:
        return [f"--environment_type={environment} is unknown: give one of {', '.join(_ENVIRONMENTS)}."]
    if environment == "LOOPBACK" and not _on_this_machine(args):
        return [f"--environment_type=LOOPBACK cannot be reached from other machines: give {_POOL_REMEDY}."]
    # Beam 2.77 fails without a reason given when EXTERNAL has its address in --environment_options instead.
    if environment == "EXTERNAL" and not config:
        return [f"--environment_type=EXTERNAL needs the address of the worker pools: give {_POOL_REMEDY}."]
    if environment == "PROCESS" and not config and not flag_value(args, "environment_options"):
        return [
            "--environment_type=PROCESS needs the command that starts a worker on a TaskManager's machine: "
            "give --environment_options=process_command=/opt/apache/beam/boot."
        ]
    return []


def _parallelism_problems(args: Sequence[str]) -> list[str]:
    remedy = "give the number of task slots that the job may use."
    if flag_value(args, "parallelism") is None and not _on_this_machine(args):
        return [f"a Flink cluster without --parallelism may run the job in one slot: {remedy}"]
    return whole_number_problem(args, "parallelism", 1, remedy)


def _on_this_machine(args: Sequence[str]) -> bool:
    master = flag_value(args, "flink_master") or _IN_JOB_SERVER[0]
    address = master.rpartition("://")[2].rstrip("/")
    return master in _IN_JOB_SERVER or address.rpartition(":")[0].strip("[]") in _THIS_MACHINE


FLINK = Place(
    name="FlinkRunner",
    summary="an Apache Flink cluster",
    options=options,
    check=check,
)
