"""A real Flink standalone cluster on the loopback interface: a JobManager and TaskManagers.

Flink comes from PyPI (the wheel `apache-flink-libraries` holds its jars) into a cache folder; Java 17 is assumed.
All of the cluster's files, logs and temporary data live in the folder that the test gives.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from types import TracebackType

from tests.processes import Program, free_port, poll

FLINK_VERSION = "2.2.1"
CACHE = Path.home() / ".cache" / "beam_etl_test"
RUN_SQL = Path(__file__).resolve().parent / "cluster" / "RunSql.java"
START_SECONDS = 120

# Flink runs on Java 17 only with these packages opened (config.yaml of its distribution, env.java.opts.all).
OPENED_PACKAGES = (
    *("java.io", "java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text", "java.time", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch"),
)
# Started without its shell scripts, a TaskManager must be told every part of its memory.
TASKMANAGER_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.network.min": "32m",
    "taskmanager.memory.network.max": "32m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.task.heap.size": "192m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.framework.heap.size": "64m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "192m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
}


def flink_home() -> Path:
    """The folder with Flink's lib/ and opt/, downloaded on first use.

    Raises:
        subprocess.CalledProcessError: pip could not fetch the wheel.
    """
    home = CACHE / f"flink-{FLINK_VERSION}"
    if not home.exists():
        unpacked = CACHE / f"flink-{FLINK_VERSION}.{os.getpid()}"
        wheel = f"apache-flink-libraries=={FLINK_VERSION}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(unpacked), wheel], check=True)
        (archive,) = unpacked.glob("*.whl")
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(unpacked)
        archive.unlink()
        try:
            unpacked.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(unpacked)
    return home / "pyflink"


class FlinkCluster:
    """`with FlinkCluster(folder) as cluster:` runs until the block ends; every process it started is dead then.

    `folder/logs` keeps what each process printed. A lost TaskManager is noticed within 5 s, and a job is restarted up
    to ten times.
    """

    def __init__(self, folder: Path, taskmanagers: int = 2) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.taskmanagers = taskmanagers
        self.rest_port = free_port()
        self._home = flink_home()
        self._programs: dict[str, Program] = {}

    @property
    def master(self) -> str:
        """What --flink_master takes."""
        return f"127.0.0.1:{self.rest_port}"

    def __enter__(self) -> "FlinkCluster":
        for name in ("logs", "conf", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        lines = [f"{key}: {value}" for key, value in self._configuration().items()]
        (self.folder / "conf" / "config.yaml").write_text("\n".join(lines) + "\n")
        try:
            self._start("jobmanager", "entrypoint.StandaloneSessionClusterEntrypoint", heap_mb=384)
            for index in range(self.taskmanagers):
                self.start_taskmanager(index)
            self.wait_for_slots(self.taskmanagers)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends every process of the cluster; asked twice, does nothing."""
        for name in list(self._programs):
            self._programs.pop(name).kill()

    def start_taskmanager(self, index: int) -> None:
        """Starts a TaskManager with one slot; it registers by itself."""
        memory = [f"-D{key}={value}" for key, value in TASKMANAGER_MEMORY.items()]
        self._start(f"taskmanager-{index}", "taskexecutor.TaskManagerRunner", 256, *memory)

    def kill_taskmanager(self, index: int, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends a TaskManager; returns when its process is gone, which the JobManager may not know yet."""
        self._programs.pop(f"taskmanager-{index}").kill(by)

    def wait_for_slots(self, slots: int) -> None:
        """Returns once exactly so many slots are registered with the JobManager.

        Raises:
            TimeoutError: with the end of the JobManager's log beside it in `logs`.
        """
        poll(f"{slots} slots, see {self.logs}", lambda: self._slots() == slots, START_SECONDS)

    def run_sql(self, *statements: str) -> str:
        """Submits statements with one INSERT as a batch job of one task a TaskManager; returns the job's id."""
        program = [str(RUN_SQL), str(self.rest_port), str(self.taskmanagers), *statements]
        command = [*self._java(256), "-cp", self._classpath(), *program]
        with self._log("run-sql").open("ab") as log:
            printed = subprocess.run(
                command, env=self._java_environment(), stdout=subprocess.PIPE, stderr=log, text=True, check=True
            ).stdout
        (job,) = (line.removeprefix("job ") for line in printed.splitlines() if line.startswith("job "))
        return job

    def job_state(self, job: str) -> str:
        """RUNNING, RESTARTING, FINISHED, FAILED, ..."""
        return str(self.get(f"/jobs/{job}")["state"])

    def get(self, path: str) -> dict:
        """The JobManager's REST answer, see Flink's documentation of its REST API."""
        with urllib.request.urlopen(f"http://{self.master}{path}", timeout=10) as answer:
            return json.load(answer)

    def _configuration(self) -> dict[str, object]:
        return {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 1,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "io.tmp.dirs": self.folder / "tmp",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "1 s",
        }

    def _slots(self) -> int:
        for program in self._programs.values():
            program.check()
        try:
            return int(self.get("/overview")["slots-total"])
        except OSError:  # the JobManager does not listen yet
            return -1

    def _java(self, heap_mb: int) -> list[str]:
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED_PACKAGES]
        return ["java", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={self.folder / 'tmp'}", *opened]

    def _classpath(self) -> str:
        return str(self._home / "lib" / "*")

    def _java_environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "FLINK_CONF_DIR": str(self.folder / "conf"), "HOME": str(self.folder)}

    def _start(self, name: str, main_class: str, heap_mb: int, *arguments: str) -> None:
        main = [f"org.apache.flink.runtime.{main_class}", "--configDir", str(self.folder / "conf"), *arguments]
        command = [*self._java(heap_mb), "-cp", self._classpath(), *main]
        self._programs[name] = Program(command, self._java_environment(), self._log(name))

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"
