"""`runners`: the places where a load can run, and what each still needs on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from beam_etl.exit_codes import DONE
from runners.table import PLACES

DESCRIPTION = (
    "Explains each place that --runner names, and what is missing where no flag of its own is given. Any other name is "
    "handed to Beam as it stands. Flags given here are looked at as a load would."
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m beam_etl runners", description=DESCRIPTION, allow_abbrev=False)
    given = parser.parse_known_args(arguments)[1]
    console = Console(soft_wrap=True, highlight=False)
    for place in PLACES:
        console.print(f"[bold]{place.name}[/]: {escape(place.summary)}")
        problems = place.check(given)
        for problem in problems:
            console.print(f"  [yellow]missing[/]: {escape(problem)}")
        if not problems:
            console.print("  [green]ready[/]")
    return DONE
