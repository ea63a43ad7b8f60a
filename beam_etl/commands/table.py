"""The one table of commands. A command is a module of this package: its docstring's first line explains it in --help,
and main(arguments) does it and returns the exit code."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

# Name on the command line -> one line for --help. The module has the same name, with _ for -.
COMMANDS: dict[str, str] = {
    "alerts": "what of a load somebody should be told, and telling a webhook: alerts LOAD",
    "audit": "what loads did, what state they are in, and where a file went",
    "chaos": "attack loads of its own making, and count what breaks",
    "completion": "a script for the shell: source <(beam-etl completion bash)",
    "config": "the configuration: check, show (each value, and where it comes from), schema, docs",
    "flex-template": "print metadata.json of the Dataflow flex template",
    "gc": "take away what loads have staged that are over or were given up",
    "history": "all loads of a lake, on the terminal and as a page",
    "plan": "dry run: what a load with the same flags would do; writes nothing",
    "preflight": "whether a load with the same flags could begin, as --preflight_only",
    "psql": "PostgreSQL's own shell on an embedded database: psql embedded:DIR",
    "report": "write report.html of a load again, and print the load in short: report LOAD",
    "runners": "where a load can run, and what is missing for it on this machine",
    "verify": "whether what is published is still what was loaded: files, counts, contents of both sinks",
}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Runs the command of that name with the arguments behind it."""
    command = importlib.import_module(f"beam_etl.commands.{name.replace('-', '_')}")
    code: int = command.main(arguments)
    return code


def commands_help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
