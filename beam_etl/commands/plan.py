"""`plan [flags of a load]`: a dry run: what the load would do; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from beam_etl.configuration.layers import load_config
from beam_etl.exit_codes import DONE, FAILED, USAGE
from beam_etl.flags import load_parser, read_flags
from beam_etl.postgres.errors import PostgresError
from beam_etl.terminal import complain, set_up_logging

MB = 1_000_000
DESCRIPTION = "Looks at what a load would do, from the heads of its files; takes its flags, and writes nothing."
MOST_UNREADABLE = 5


def main(arguments: Sequence[str]) -> int:
    parser = load_parser("python -m beam_etl plan", DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="Print all of it as JSON.")
    flags = read_flags(parser, arguments)
    as_json = bool(parser.parse_known_args(arguments)[0].json)
    set_up_logging(flags.verbose)
    try:
        config = load_config(flags.job_file, flags.settings, flags.profile)
        flags.checked_beam_args()
        from beam_etl.loads.dry_run import dry_run

        found = dry_run(config)
    except (PostgresError, ValueError) as error:
        complain(error)
        return USAGE
    except OSError as error:
        complain(error)
        return FAILED
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print_plan(found, Console(soft_wrap=True, highlight=False))
    return DONE


def print_plan(found: Mapping[str, Any], console: Console) -> None:
    console.print(f"Load:    {found['load']}")
    console.print(f"Files:   {found['files']:,}, {found['bytes'] / MB:,.1f} MB of text")
    console.print(f"Chunks:  up to {found['chunk_bytes'] / MB:,.1f} MB each")
    console.print(
        f"About:   {found['estimated_seconds']:,.0f} s, {found['estimated_memory_bytes'] / MB:,.0f} MB of memory "
        "(rough, for this machine)"
    )
    for note in found["notes"]:
        console.print(f"Note:    {escape(note)}")
    for name, table in found["tables"].items():
        console.print()
        _print_table(name, table, console)
    console.print("\nNothing was written.")


def _print_table(name: str, table: Mapping[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(name)}[/] ({table['mode']})")
    console.print(
        f"  {table['files']:,} files, {table['plain_bytes'] / MB:,.1f} MB of text, {table['chunks']:,} chunks, about "
        f"{table['estimated_rows']:,} rows and {table['estimated_parquet_bytes'] / MB:,.1f} MB of Parquet"
    )
    if table["skipped"]:
        console.print(f"  {len(table['skipped']):,} files skipped: the table holds them already")
    if table["looked_into"] < table["files"]:
        console.print(f"  looked into {table['looked_into']:,} of the files")
    for file in table["unreadable"][:MOST_UNREADABLE]:
        console.print(
            f"  [red]cannot be read[/]: {escape(file['file'])} {escape(file['member'])}: {escape(file['reason'])}"
        )
    if len(table["unreadable"]) > MOST_UNREADABLE:
        console.print(f"  ... and {len(table['unreadable']) - MOST_UNREADABLE} more")
    if table["refused_columns"]:
        console.print(f"  [red]columns that the table lacks[/]: {escape(', '.join(table['refused_columns']))}")
    if table["missing_columns"]:
        console.print(f"  [red]columns that upsert needs, in no file[/]: {escape(', '.join(table['missing_columns']))}")
    for told in _dialects(table["dialects"]):
        console.print(f"  {escape(told)}")
    for line in table["ddl"].splitlines():
        console.print(f"  {escape(line)}")


def _dialects(dialects: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each way of writing, with the evidence of its first file."""
    lines: dict[str, tuple[int, str]] = {}
    for found in dialects:
        way = f"{found['encoding']}, delimiter {found['delimiter']!r}, quote {found['quote']!r}"
        count, evidence = lines.get(way, (0, "; ".join(found["evidence"])))
        lines[way] = (count + 1, evidence)
    return [f"{count} x {way}: {evidence}" for way, (count, evidence) in lines.items()]
