"""`report LOAD --output DIR`: writes report.html of a load again, and prints the load in short."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from beam_etl.config import EtlConfig
from beam_etl.console import print_tables
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.loads.plan import read_report
from beam_etl.reports.history import read_history
from beam_etl.reports.pages import write_report_page
from beam_etl.terminal import complain, set_up_logging

LAST = "last"


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    try:
        load_id = _last_load(flags.output) if flags.load == LAST else flags.load
        if "/" in load_id or load_id in ("", ".", ".."):
            raise ValueError(f"{load_id!r} is no load; python -m beam_etl history lists them")
        path = write_report_page(flags.output, load_id)
        report = read_report(flags.output, load_id)
    except ValueError as error:
        complain(error)
        return USAGE
    except OSError as error:
        complain(error)
        return FAILED
    if report is None:  # deleted meanwhile
        return FAILED
    print_tables(report, Console())
    print(f"Report:     {path}")
    return PUBLISHED if report["published"] else NOT_PUBLISHED


def _last_load(output: str) -> str:
    history = read_history(output)
    if not history:
        raise ValueError(f"no load of {output} has a report yet; load something, or give another --output")
    return str(history[-1]["load_id"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl report",
        description="Writes report.html of a load again, and prints the load in short. Exits with 3 where some table of "
        "it is not published.",
        allow_abbrev=False,
    )
    parser.add_argument("load", metavar="LOAD", help=f"The load_id, or {LAST} for the load that was planned last.")
    parser.add_argument("--output", required=True, metavar="VALUE", help=EtlConfig.model_fields["output"].description)
    return parser
