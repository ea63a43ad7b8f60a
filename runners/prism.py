"""Prism, Beam's stand-alone local runner: a program of its own, written in Go.

Its workers are threads of the launching process (LOOPBACK, the default), or a process started by a worker pool
(--environment_type=EXTERNAL --environment_config=localhost:PORT). As measured on 2.77:

- A job has one worker process: one for each environment of the graph, and our graph has one. A second environment is no
  way to a second worker: Prism panics when two workers number their metrics differently.
- All elements that wait for a stage are one bundle, which Prism splits while it is slow; so chunks are converted in parallel.
- A killed worker fails the job at once, nothing is tried again, and the same command resumes the load.
- When the launcher is killed, Prism goes on to the end of the job with the workers of a pool, and may publish. The same
  command meanwhile is safe, as two runs of one load always are. Prism then dies of its next line of output, which nobody
  reads; so its log level stays as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from runners.place import Place, filled_in, flag_value

_PROGRAM = "prism"


def options(args: Sequence[str], cores: int) -> list[str]:
    """The program found on PATH, when none is named."""
    found = shutil.which(_PROGRAM)
    return filled_in(args, "PrismRunner", {"prism_location": found} if found else {})


def check(args: Sequence[str]) -> list[str]:
    """A problem when Beam would download a program that nobody asked for, or the named one is missing."""
    location = flag_value(args, "prism_location")
    remedy = (
        "build it with `go install github.com/apache/beam/sdks/v2/go/cmd/prism@v<version of apache-beam>` and put it "
        "on PATH, or give --prism_location a file or a release's address."
    )
    if location is None:
        return (
            [] if shutil.which(_PROGRAM) else [f"PrismRunner needs the program prism, which is not on PATH: {remedy}"]
        )
    if "://" not in location and not Path(location).is_file():
        return [f"--prism_location={location} is not a file: {remedy}"]
    return []


PRISM = Place(
    name="PrismRunner",
    summary="Beam's stand-alone local runner",
    options=options,
    check=check,
)
