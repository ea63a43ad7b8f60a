"""`audit [LOAD] --output DIR`: what loads did, what state they are in, and where a file went."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_etl.config import EtlConfig
from beam_etl.exit_codes import FAILED, PUBLISHED, USAGE
from beam_etl.loads.audit import LoadAudit, TableAudit, find_file, read_audit, read_audits
from beam_etl.postgres.errors import PostgresError
from beam_etl.sinks import SinkSettings
from beam_etl.terminal import complain, set_up_logging

MOST_FILES = 50
_NEVER_BROKEN = ("load", "planned", "state", "now")
_COLOURS = {"published": "green", "failed": "red", "running": "cyan", "committed": "yellow", "pending": "yellow"}


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    sinks = SinkSettings(flags.output, "", postgres=flags.postgres, postgres_schema=flags.postgres_schema)
    console = Console()
    try:
        if flags.load:
            _show_load(console, read_audit(sinks, flags.load), flags.json)
        elif flags.file:
            _show_file(console, read_audits(sinks, flags.table), flags.file, flags.json)
        else:
            _show_loads(console, read_audits(sinks, flags.table), flags.json)
    except ValueError as error:
        complain(error)
        return USAGE
    except (OSError, PostgresError, RuntimeError) as error:
        complain(error)
        return FAILED
    return PUBLISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl audit",
        description="What loads did, what state they are in, and where a file went. Reads only.",
        allow_abbrev=False,
    )
    fields = EtlConfig.model_fields
    parser.add_argument("load", nargs="?", metavar="LOAD", help="Id of one load, to see its runs, tables and files.")
    parser.add_argument("--output", required=True, metavar="VALUE", help=fields["output"].description)
    for name in ("postgres", "postgres_schema"):
        parser.add_argument(f"--{name}", default=fields[name].default, metavar="VALUE", help=fields[name].description)
    parser.add_argument("--table", metavar="NAME", help="Only loads of this table.")
    parser.add_argument("--file", metavar="PATH", help="Where this file, or member of an archive, went.")
    parser.add_argument("--json", action="store_true", help="Everything that is known, as JSON.")
    return parser


def _show_loads(console: Console, audits: Sequence[LoadAudit], as_json: bool) -> None:
    if as_json:
        print(json.dumps([audit.to_json() for audit in audits], ensure_ascii=False, indent=1))
        return
    table = _table("load", "planned", "state", "now", right=("tables", "files", "rows", "rejects"))
    for audit in audits:
        table.add_row(
            audit.load_id,
            audit.created.partition("T")[0],
            _coloured(audit.state),
            "yes" if audit.current else "",
            f"{len(audit.tables):,}",
            f"{sum(len(own.files) for own in audit.tables):,}",
            f"{sum(own.rows for own in audit.tables):,}",
            f"{sum(own.rejects for own in audit.tables):,}",
        )
    console.print(table if audits else "no load was planned here")


def _show_load(console: Console, audit: LoadAudit, as_json: bool) -> None:
    if as_json:
        print(json.dumps(audit.to_json(), ensure_ascii=False, indent=1))
        return
    console.print(f"Load {audit.load_id}: {_coloured(audit.state)}, planned {audit.created}")
    runs = _table("run", "started", "ended", "outcome", "who and where", "version")
    for run in audit.runs:
        died = "cut off" if run.has_died() else "" if run.ended else "no end yet"
        where = escape(f"{run.user}@{run.host} ({run.pid})")
        runs.add_row(run.run, run.started, run.ended, run.outcome or died, where, escape(run.version))
    console.print(runs)
    for command in dict.fromkeys(run.command for run in audit.runs):
        console.print(f"  {escape(command)}", highlight=False, soft_wrap=True)
    for own in audit.tables:
        _show_table(console, own)


def _show_table(console: Console, own: TableAudit) -> None:
    sinks = ", ".join(f"{sink} {'yes' if published else 'no'}" for sink, published in own.sinks.items())
    done = sum(chunk.state != "pending" for chunk in own.chunks)
    console.print(
        f"\n{escape(own.table)}: {_coloured(own.state)}{', current' if own.current else ''} ({own.mode}; published: "
        f"{sinks}); {own.records_in:,} records, {own.rows:,} rows, {own.rejects:,} rejects; "
        f"{done:,} of {len(own.chunks):,} chunks committed",
        soft_wrap=True,
    )
    for reason in own.reasons:
        console.print(f"  [red]{escape(reason)}[/]", soft_wrap=True)
    files = _table("file", "state", right=("bytes", "records", "rejects"))
    for file in own.files[:MOST_FILES]:
        name = f"{file.uri}{'!' + file.member if file.member else ''}"
        state = f"{_coloured(file.state)}{': ' + escape(file.reason) if file.reason else ''}"
        files.add_row(escape(name), state, f"{file.bytes:,}", f"{file.records:,}", f"{file.rejects:,}")
    console.print(files)
    if len(own.files) > MOST_FILES:
        console.print(f"  ... and {len(own.files) - MOST_FILES:,} more files; --json names all")


def _show_file(console: Console, audits: Sequence[LoadAudit], wanted: str, as_json: bool) -> None:
    found = list(find_file(audits, wanted))
    if not found:
        raise ValueError(f"no load here has planned or skipped {wanted!r}; give its path, or its end, as it was loaded")
    if as_json:
        values = [{"load_id": a.load_id, "table": t.table, "current": t.current, **vars(f)} for a, t, f in found]
        print(json.dumps(values, ensure_ascii=False, indent=1))
        return
    table = _table("file", "version", "load", "table", "state", "current", right=("records", "rejects"))
    for audit, own, file in found:
        name = f"{file.uri}{'!' + file.member if file.member else ''}"
        state = f"{_coloured(file.state)}{': ' + escape(file.reason) if file.reason else ''}"
        current = "yes" if own.current and file.state == "published" else ""
        counts = (f"{file.records:,}", f"{file.rejects:,}")
        table.add_row(escape(name), file.version, audit.load_id, escape(own.table), state, current, *counts)
    console.print(table)


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name in _NEVER_BROKEN)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _coloured(state: str) -> str:
    return f"[{_COLOURS[state]}]{state}[/]" if state in _COLOURS else state
