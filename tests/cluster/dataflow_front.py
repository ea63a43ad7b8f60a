"""A loopback Dataflow for the real DataflowRunner: it records the job that is submitted, and runs that very job.

What the runner stages is what is run: the pipeline proto is fetched from the bucket, the job's source package is unpacked
beside it, and a process that sees only that package runs the proto on Beam's in-process runner (`staged_job.py`).
"""

import contextlib
import dataclasses
import json
import os
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.gcs_front import ConditionalStorage
from tests.processes import Program

JOB_ID = "2026-01-01_00_00_00-1"
STAGED_JOB = Path(__file__).with_name("staged_job.py")


@dataclasses.dataclass
class Job:
    """The job as it was submitted.

    Attributes:
      request: body of projects.locations.jobs.create, as JSON.
      proto: the staged pipeline, serialized.
      packages: staged name -> bytes, of every package that workers are to fetch.
    """

    request: dict[str, Any]
    proto: bytes
    packages: dict[str, bytes]


class DataflowFront(ThreadingHTTPServer):
    """Knows one job at a time. `environment` is that of the workers."""

    def __init__(self, objects: ConditionalStorage, directory: Path, environment: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects = objects
        self.directory = directory
        self.environment = environment
        self.job: Job | None = None
        self._worker: Program | None = None

    @property
    def endpoint(self) -> str:
        return f"http://localhost:{self.server_port}"

    def submit(self, request: dict[str, Any]) -> None:
        """Takes the job out of the bucket and starts it."""
        sdk_options = request["environment"]["sdkPipelineOptions"]["options"]
        staging = sdk_options["staging_location"].rstrip("/")
        packages = {
            package["name"]: self._object(f"{staging}/{package['name']}")
            for pool in request["environment"]["workerPools"]
            for package in pool.get("packages", [])
        }
        self.job = Job(request, self._object(f"{staging}/pipeline.pb"), packages)
        self._worker = self._start(self.job)

    def state(self) -> str:
        """The job's state, in Dataflow's words."""
        if self._worker is None:
            return "JOB_STATE_PENDING"
        code = self._worker.exit_code()
        if code is None:
            return "JOB_STATE_RUNNING"
        return "JOB_STATE_DONE" if code == 0 else "JOB_STATE_FAILED"

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()

    def _object(self, address: str) -> bytes:
        bucket, _, name = address.removeprefix("gs://").partition("/")
        content: bytes = self.objects.get_file(bucket, name)
        return content

    def _start(self, job: Job) -> Program:
        code = self.directory / "code"
        code.mkdir(parents=True)
        (self.directory / "pipeline.pb").write_bytes(job.proto)
        archive = self.directory / "workflow.tar.gz"
        archive.write_bytes(job.packages["workflow.tar.gz"])
        with tarfile.open(archive) as tar:
            tar.extractall(code, filter="data")
        [package] = code.iterdir()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), **self.environment}
        command = [sys.executable, str(STAGED_JOB), str(self.directory / "pipeline.pb")]
        return Program(command, environment, self.directory / "workers.log")


class _Handler(BaseHTTPRequestHandler):
    server: DataflowFront

    def do_POST(self) -> None:
        self.server.submit(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer_job()

    def do_GET(self) -> None:
        if "/messages" in self.path:
            self._answer({"jobMessages": []})
        elif "/metrics" in self.path:
            self._answer({"metrics": []})
        else:
            self._answer_job()

    def _answer_job(self) -> None:
        self._answer({"id": JOB_ID, "name": "load", "currentState": self.server.state()})

    def _answer(self, values: dict[str, Any]) -> None:
        content = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is no access log."""


@contextlib.contextmanager
def serve_dataflow(
    objects: ConditionalStorage, directory: Path, environment: dict[str, str]
) -> Iterator[DataflowFront]:
    """Serves Dataflow's REST API for the life of the context; a job that still runs then is killed."""
    front = DataflowFront(objects, directory, environment)
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
        front.stop()
        thread.join()
