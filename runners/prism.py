"""Prism, Beam's stand-alone local runner: a program of its own, written in Go."""

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
