"""Compares beam_etl with other engines, alternating in the same run, and writes docs/benchmarks/README.md.

    python benchmarks/run.py [--scale_factor 1] [--rounds 3] [--only parquet,parts,postgres,registry]

A ratio of two medians from one run says much on any machine; seconds only on the one they were measured on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from beam_etl.postgres import embedded_postgres
from benchmarks.cases import Case, registry_dump, to_parquet, to_postgres
from benchmarks.data import ROOT
from benchmarks.measure import Cost, measure, median
from benchmarks.tables import page

CASES = ("parquet", "parts", "postgres", "registry")
PARTS = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale_factor", type=float, default=1.0, help="of TPC-H; 0.1 for a quick look")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--only", default=",".join(CASES), help=f"which of {','.join(CASES)}")
    parser.add_argument("--data", type=Path, default=ROOT / "benchmarks/data", help="where files are made and kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks/README.md", help="where the results go")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    arguments.data.mkdir(parents=True, exist_ok=True)
    work = arguments.data / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    results = [(case, compare(case, arguments.rounds, work)) for case in _cases(arguments, work)]
    scale_factor, rounds = arguments.scale_factor, arguments.rounds
    command = f"python benchmarks/run.py --scale_factor={scale_factor:g} --rounds={rounds} --only={arguments.only}"
    text = page(results, command, scale_factor, rounds)
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(text)
    print(text)
    return 0


def _cases(arguments: argparse.Namespace, work: Path) -> list[Case]:
    chosen = arguments.only.split(",")
    data, scale_factor = arguments.data, arguments.scale_factor
    cases = []
    if "parquet" in chosen:
        cases.append(to_parquet(data, scale_factor, 1))
    if "parts" in chosen:
        cases.append(to_parquet(data, scale_factor, PARTS))
    if "postgres" in chosen:
        # Started here, and so kept up until the end: no contestant pays for starting a server.
        psql = embedded_postgres.psql_command(work / "postgres")
        cases.append(to_postgres(data, scale_factor, work / "postgres", psql))
    if "registry" in chosen:
        cases.append(registry_dump(data, 10 * scale_factor))
    return cases


def compare(case: Case, rounds: int, work: Path) -> dict[str, Cost]:
    """The medians of each contestant. They take turns, so that what else the machine does hits all of them."""
    costs: dict[str, list[Cost]] = {contestant: [] for contestant in case.commands}
    for path in case.inputs:
        _warm(path)
    for number in range(rounds):
        for contestant, command in case.commands.items():
            output = work / "output"
            cost = measure(command(output), work / "log", case.exit_codes)
            costs[contestant].append(cost)
            print(f"{case.title}: round {number + 1}, {contestant}: {cost}", file=sys.stderr, flush=True)
            if output.is_dir():
                shutil.rmtree(output)
            output.unlink(missing_ok=True)
    return {contestant: median(measured) for contestant, measured in costs.items()}


def _warm(path: Path) -> None:
    """Reads files once, so that nobody pays for the disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                while stream.read(1 << 20):
                    pass


if __name__ == "__main__":
    sys.exit(main())
