"""What is compared: each case is some work, and who does it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.data import ROOT, lineitem, registry
from benchmarks.peers import ENGINES, engine_command, psql_copy_command

OURS = "beam_etl"
NOT_PUBLISHED = 3


@dataclasses.dataclass(frozen=True)
class Bar:
    """What must hold: wall time at most so many times that of a peer, and peak memory."""

    peer: str
    wall_ratio: float
    peak_mib: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      title: what is done.
      inputs: what is read.
      commands: contestant -> its command, given an output path that does not exist yet; in the order of running.
      bar: what must hold, None where the figures only inform.
      exit_codes: that mean success.
    """

    title: str
    inputs: Sequence[Path]
    commands: dict[str, Callable[[Path], list[str]]]
    bar: Bar | None = None
    exit_codes: frozenset[int] = frozenset({0})

    @property
    def input_bytes(self) -> int:
        files = [file for path in self.inputs for file in ([path] if path.is_file() else path.rglob("*"))]
        return sum(file.stat().st_size for file in files if file.is_file())


def beam_etl_command(output: Path, inputs: Sequence[Path], *flags: str) -> list[str]:
    command = [sys.executable, "-m", "beam_etl", f"--output={output}", *flags]
    return [*command, *(f"--input={path}" for path in inputs)]


def to_parquet(data: Path, scale_factor: float, parts: int) -> Case:
    files = lineitem(data, scale_factor, parts)
    commands: dict[str, Callable[[Path], list[str]]] = {
        OURS: lambda output: beam_etl_command(output, files, "--table=lineitem")
    }
    for engine in ENGINES:
        commands[engine] = lambda output, engine=engine: engine_command(engine, output, files)  # type: ignore[misc]
    where = "one file" if parts == 1 else f"{parts} files"
    return Case(f"lineitem, {where}, to Parquet (zstd 1)", files, commands, Bar("polars", 2.5, 600))


def to_postgres(data: Path, scale_factor: float, directory: Path, psql: Sequence[str]) -> Case:
    """beam_etl writes Parquet beside it, which psql does not."""
    files = lineitem(data, scale_factor, 1)
    flags = ("--table=lineitem", f"--postgres=embedded:{directory}")
    return Case(
        "lineitem, one file, to PostgreSQL (logged table)",
        files,
        {
            OURS: lambda output: beam_etl_command(output, files, *flags),
            r"psql \copy": lambda output: psql_copy_command(psql, files),
        },
        Bar(r"psql \copy", 1.0),
    )


def registry_dump(data: Path, scale: float) -> Case:
    """No other engine reads it: encodings, zips, bad records. Two of its zips are damaged, so exit code 3 is right."""
    source = registry(data, scale)
    config = f"--config={ROOT / 'examples/registry.yaml'}"
    commands = {OURS: lambda output: beam_etl_command(output, [source], config)}
    return Case("registry dump with faults, to Parquet", [source], commands, exit_codes=frozenset({0, NOT_PUBLISHED}))
