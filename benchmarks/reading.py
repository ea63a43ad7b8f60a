"""Measures the reading kernels beside their bars: boundaries, typed columns, detection, planning of small files.

    python benchmarks/reading.py [--only boundaries,columns,...] [--boundaries_gb 10] [--scale_factor 1] [--rounds 3]

Figures are CPU time of this process, all of its threads included, medians after one run to warm up, so that what else the
machine does weighs little. `linebreaks` is a proof rather than a race, and is made only where --only names it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.data import ROOT
from benchmarks.linebreaks import prove
from benchmarks.reading_cases import Figure, boundaries, columns, detection, registry_columns, silent, small_files

Case = Callable[[argparse.Namespace], Iterator[Figure]]


def linebreaks(arguments: argparse.Namespace) -> Iterator[Figure]:
    """Raises AssertionError where the load and csv.reader differ."""
    expected, landed = prove(arguments.data, int(arguments.linebreaks_mb * 1e6))
    assert landed.rejects == expected.rejects, set(landed.rejects) ^ set(expected.rejects)
    assert landed == expected, f"{landed.rows} rows landed, csv.reader finds {expected.rows}; or their cells differ"
    what = f"rows equal to csv.reader's, {arguments.linebreaks_mb:g} MB with line breaks in half of the records"
    yield Figure(what, expected.rows, "rows")
    yield Figure("rejects on exactly csv.reader's records and lines", len(expected.rejects), "rejects")


CASES: dict[str, Case] = {
    "boundaries": lambda a: boundaries(a.data, int(a.boundaries_gb * 1e9), a.rounds),
    "silent": lambda a: silent(a.data, a.rounds),
    "columns": lambda a: columns(a.data, a.scale_factor, a.rounds),
    "registry": lambda a: registry_columns(a.data, a.rounds),
    "detection": lambda a: detection(a.data, a.scale_factor, a.rounds),
    "small_files": lambda a: small_files(a.data, a.small_files, a.whole_load),
    "linebreaks": linebreaks,
}
USUAL = [case for case in CASES if case != "linebreaks"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(USUAL), help=f"which of {','.join(CASES)}")
    parser.add_argument("--boundaries_gb", type=float, default=10, help="file in which boundaries are found")
    parser.add_argument("--linebreaks_mb", type=float, default=2000, help="file that the proof loads")
    parser.add_argument("--scale_factor", type=float, default=1, help="of TPC-H")
    parser.add_argument("--small_files", type=int, default=10_000, help="how many are planned")
    parser.add_argument("--whole_load", action="store_true", help="load the small files too, for 2 minutes at most")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--data", type=Path, default=ROOT / "benchmarks/data", help="where files are made")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    arguments.data.mkdir(parents=True, exist_ok=True)
    print("| case | what | figure | bar | |\n|---|---|---|---|---|")
    for case in arguments.only.split(","):
        for figure in CASES[case](arguments):
            print(f"| {case} | {figure} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
