"""What a person reads on the terminal when a load is over."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_etl.config import EtlConfig
from beam_etl.launcher import LoadResult
from beam_etl.postgres.names import postgres_name, quoted_name

MB = 1_000_000
MAX_REASONS = 3


def print_result(result: LoadResult, config: EtlConfig, console: Console | None = None) -> None:
    """Prints the verdict, the tables, why any is not published, and where to look."""
    console = console or Console()
    report = result.report
    if result.submitted:
        command = f"--output={config.output} (the same command without --no-wait follows it, or says what came of it)"
        console.print(f"Submitted: load {report['load_id']} into {command}", soft_wrap=True)
        return
    if result.already_loaded:
        console.print(f"[green]Already loaded[/]: {_why_nothing_was_done(report)}", soft_wrap=True)
    print_tables(report, console)
    seconds = max(report["seconds"], 0.001)
    total_bytes = sum(entry["bytes"] for entry in report["tables"].values())
    if not result.already_loaded:
        console.print(f"{total_bytes / MB:,.1f} MB in {seconds:.1f} s, {total_bytes / MB / seconds:,.1f} MB/s")
    for name, entry in report["tables"].items():
        if entry["mode"] == "upsert" and entry["published"] and entry["files"]:
            told = ", ".join(f"{entry[k]:,} {k}" for k in ("inserted", "updated", "removed", "superseded"))
            console.print(f"{escape(name)}: {told}", soft_wrap=True)
        for reason in entry["reasons"][:MAX_REASONS]:
            console.print(f"[red]{escape(name)} is not published[/]: {escape(reason)}", soft_wrap=True)
        if len(entry["reasons"]) > MAX_REASONS:
            console.print(f"  ... and {len(entry['reasons']) - MAX_REASONS} more reasons in the report")
    _print_places(console, report, config)


def _why_nothing_was_done(report: dict[str, Any]) -> str:
    entries = report["tables"].values()
    if any(entry["mode"] not in ("append", "upsert") for entry in entries):
        return f"{report['load_id']} is what the tables hold; --force loads it again."
    files = sum(entry["skipped"] + entry["files"] for entry in entries)
    mode = "append" if all(entry["mode"] == "append" for entry in entries) else "upsert"
    return f"the tables hold all {files} files; {mode} never adds a file twice."


def print_tables(report: dict[str, Any], console: Console) -> None:
    """Prints a line for each table of a load."""
    console.print(_tables(report))


def _tables(report: dict[str, Any]) -> Table:
    table = Table(title=f"Load {report['load_id']}", title_justify="left")
    table.add_column("table")
    skipping = any(entry["skipped"] for entry in report["tables"].values())
    for name in ("files", *(["skipped"] if skipping else []), "records in", "rows", "rejects"):
        table.add_column(name, justify="right")
    table.add_column("published")
    for name, entry in report["tables"].items():
        rejects = f"{entry['rejects']:,}"
        if entry["rejected_files"]:
            rejects += f" + {entry['rejected_files']} files"
        table.add_row(
            escape(name),
            f"{entry['files']:,}",
            *([f"{entry['skipped']:,}"] if skipping else []),
            f"{entry['records_in']:,}",
            f"{entry['rows']:,}",
            rejects,
            "[green]yes[/]" if entry["published"] else "[red]no[/]",
        )
    return table


def _print_places(console: Console, report: dict[str, Any], config: EtlConfig) -> None:
    output = config.output.rstrip("/")
    load = f"{output}/_beam_etl/loads/{report['load_id']}"
    console.print(f"Parquet:    {output}/<table>/*.parquet", highlight=False, soft_wrap=True)
    if any(entry["rejects_directory"] for entry in report["tables"].values()):
        console.print(
            f"Rejects:    {output}/_beam_etl/rejects/{report['load_id']}/<table>/*.jsonl",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Report:     {config.report or load + '/report.json'}", highlight=False, soft_wrap=True)
    if Path(f"{load}/report.html").exists():
        console.print(f"To read:    {load}/report.html", highlight=False, soft_wrap=True)
    published = [name for name, entry in report["tables"].items() if entry["published"] and entry["rows"]]
    if not published:
        return
    first = published[0]
    code = f"import pyarrow.dataset as d; print(d.dataset({report['tables'][first]['parquet']!r}).head(5))"
    console.print(f"Look into:  {_python()} -c {_shell_quoted(code)}", highlight=False, soft_wrap=True)
    if config.postgres is not None and config.postgres.startswith("embedded:"):
        target = f"{quoted_name(config.postgres_schema)}.{quoted_name(postgres_name(first))}"
        command = [_python(), "-m", "beam_etl", "psql", config.postgres, "-c", f"TABLE {target} LIMIT 5"]
        console.print(f"            {shlex.join(command)}", highlight=False, soft_wrap=True)


def _python() -> str:
    """This interpreter as a person here would type it, so that the commands work in whatever environment is active."""
    executable = Path(sys.executable)
    return str(executable.relative_to(Path.cwd()) if executable.is_relative_to(Path.cwd()) else executable)


def _shell_quoted(code: str) -> str:
    """In double quotes where they suffice: Python code is full of single ones, which shlex writes unreadably."""
    return shlex.quote(code) if any(c in code for c in '"$`!\\') else f'"{code}"'
