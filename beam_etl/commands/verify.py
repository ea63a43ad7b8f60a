"""`verify [LOAD] --output DIR`: whether what is published is still what was loaded, counted and compared again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_etl.config import EtlConfig
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.loads.verification import TableVerification, verify_tables
from beam_etl.postgres.errors import PostgresError
from beam_etl.sinks import SinkSettings
from beam_etl.terminal import complain, set_up_logging

MOST_FINDINGS = 50


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    sinks = SinkSettings(flags.output, "", postgres=flags.postgres, postgres_schema=flags.postgres_schema)
    try:
        verified = list(verify_tables(sinks, flags.load or "", flags.table or ""))
    except (OSError, pa.ArrowException, json.JSONDecodeError) as error:  # some of them are ValueErrors too
        complain(error)
        return FAILED
    except ValueError as error:
        complain(error)
        return USAGE
    except (PostgresError, RuntimeError) as error:
        complain(error)
        return FAILED
    if flags.json:
        print(json.dumps([table.to_json() for table in verified], ensure_ascii=False, indent=1))
    else:
        _show(Console(), verified)
    return PUBLISHED if all(table.right for table in verified) else NOT_PUBLISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl verify",
        description="Counts and compares again what is published: Parquet files by their checksums, records of sources, "
        "rejects, and every value in PostgreSQL with Parquet's. Reads only. Exit code 0: all is right, 3: something "
        "differs, 2: wrong use, 4: it could not look.",
        allow_abbrev=False,
    )
    fields = EtlConfig.model_fields
    which = parser.add_mutually_exclusive_group()
    which.add_argument("load", nargs="?", metavar="LOAD", help="Only tables of which this load is part.")
    parser.add_argument("--output", required=True, metavar="VALUE", help=fields["output"].description)
    for name in ("postgres", "postgres_schema"):
        parser.add_argument(f"--{name}", default=fields[name].default, metavar="VALUE", help=fields[name].description)
    which.add_argument("--table", metavar="NAME", help="Only this table.")
    parser.add_argument("--json", action="store_true", help="All that was found, as JSON.")
    return parser


def _show(console: Console, verified: Sequence[TableVerification]) -> None:
    summary = Table()
    for name in ("table", "", "contents"):
        summary.add_column(name, overflow="fold")
    for name in ("files", "rows", "in PostgreSQL", "rejects", "sources counted"):
        summary.add_column(name, justify="right")
    for table in verified:
        summary.add_row(
            escape(table.table),
            "[green]right[/]" if table.right else "[red]differs[/]",
            "compared" if table.compared else "",
            f"{table.files:,}",
            f"{table.rows:,}",
            "" if table.postgres_rows is None else f"{table.postgres_rows:,}",
            f"{table.rejects:,}",
            f"{table.sources_counted:,} of {table.sources:,}",
        )
    console.print(summary)
    for table in verified:
        ordered = sorted(table.findings, key=lambda finding: not finding.fault)
        for finding in ordered[:MOST_FINDINGS]:
            kind = "[red]differs[/]" if finding.fault else "[yellow]note[/]"
            place = f"{table.table}, {finding.place}, {finding.subject}"
            console.print(f"{kind} {escape(place)}: {escape(finding.text)}", soft_wrap=True, highlight=False)
        if len(ordered) > MOST_FINDINGS:
            console.print(f"... and {len(ordered) - MOST_FINDINGS:,} more of {escape(table.table)}; --json names all")
