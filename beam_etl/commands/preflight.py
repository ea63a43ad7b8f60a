"""`preflight [flags of a load]`: whether the load could begin; the same as the load's flag --preflight_only."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from beam_etl.configuration.layers import load_config
from beam_etl.exit_codes import DONE, USAGE
from beam_etl.flags import load_parser, read_flags
from beam_etl.secrets import redact
from beam_etl.terminal import complain, set_up_logging

DESCRIPTION = (
    "Looks whether a load could begin: inputs, output, disk, memory, PostgreSQL, tables, runner. Takes its flags."
)
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def main(arguments: Sequence[str]) -> int:
    flags = read_flags(load_parser("python -m beam_etl preflight", DESCRIPTION), arguments)
    set_up_logging(flags.verbose)
    try:
        config = load_config(flags.job_file, flags.settings, flags.profile)
        beam_args = flags.checked_beam_args()
        from beam_etl.preflight import preflight

        checks = preflight(config, beam_args)
    except ValueError as error:
        complain(error)
        return USAGE
    console = Console(soft_wrap=True, highlight=False)
    for check in checks:
        verdict = f"[{COLOURS[check.verdict]}]{check.verdict:<4}[/]"
        console.print(f"{verdict}  {check.name:<9} {escape(redact(check.found))}")
    return USAGE if any(check.verdict == "fail" for check in checks) else DONE
