"""Runs a staged pipeline proto on Beam's in-process runner: what Dataflow's workers do, with Docker images left out.

The code that the pipeline names is imported from PYTHONPATH, which holds the job's staged package and nothing else.
"""

import sys
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment

from runners.direct import switch_off_timed_flush

WORKERS = 2


def main(path: str) -> None:
    proto = beam_runner_api_pb2.Pipeline.FromString(Path(path).read_bytes())
    embedded = EmbeddedPythonGrpcEnvironment.default().to_runner_api(None)
    for environment in proto.components.environments.values():
        environment.urn, environment.payload = embedded.urn, embedded.payload
        del environment.dependencies[:]
    switch_off_timed_flush()
    runner = FnApiRunner()
    runner._num_workers = WORKERS  # set by run_pipeline alone, which wants a Pipeline and not its proto
    runner.run_via_runner_api(proto, PipelineOptions(["--direct_running_mode=multi_threading"]))


if __name__ == "__main__":
    main(sys.argv[1])
