"""`history --output DIR`: all loads of a lake, on the terminal and as a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_etl.config import EtlConfig
from beam_etl.exit_codes import FAILED, PUBLISHED, USAGE
from beam_etl.reports.history import read_history
from beam_etl.reports.pages import load_totals, write_history_page
from beam_etl.terminal import complain, set_up_logging


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    try:
        history = read_history(flags.output)
        if not history:
            print(f"no load of {flags.output} has a report yet")
            return PUBLISHED
        path = write_history_page(flags.output)
    except ValueError as error:
        complain(error)
        return USAGE
    except OSError as error:
        complain(error)
        return FAILED
    Console().print(_table(history))
    print(f"History:    {path}")
    return PUBLISHED


def _table(history: Sequence[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("load", no_wrap=True)
    table.add_column("planned", no_wrap=True)
    table.add_column("published", no_wrap=True)
    for name in ("rows", "rejects", "time"):
        table.add_column(name, justify="right")
    for report in history:
        totals = load_totals(report)
        table.add_row(
            report["load_id"],
            report["created"][:16].replace("T", " "),
            f"[{'green' if report['published'] else 'red'}]{totals['published']} of {totals['tables']}[/]",
            f"{totals['rows']:,}",
            f"{totals['rejects']:,}",
            f"{report['seconds']:.1f} s",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl history",
        description="Lists all loads of a lake, and writes history.html, which links to the report of each.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", required=True, metavar="VALUE", help=EtlConfig.model_fields["output"].description)
    return parser
