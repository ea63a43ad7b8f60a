"""`config check|show|schema|docs`: what a load would be configured as, and what can be configured."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from beam_etl.config import YAML_ONLY
from beam_etl.configuration.json_schema import job_schema
from beam_etl.configuration.layers import DEFAULT, Effective, effective_config
from beam_etl.configuration.reference import configuration_reference
from beam_etl.exit_codes import DONE, USAGE
from beam_etl.flags import load_parser, read_flags
from beam_etl.secrets import redact
from beam_etl.terminal import complain

PROGRAM = "python -m beam_etl config"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Looks at the configuration; loads nothing.")
    parser.add_argument(
        "action",
        choices=("check", "show", "schema", "docs"),
        help="check: is the configuration of a load valid; show: each setting, and where it comes from (both take the "
        "flags of a load); schema: a JSON schema of job.yaml for editors; docs: the page of all settings.",
    )
    action = parser.parse_args(arguments[:1]).action
    try:
        if action in ("check", "show"):
            _look(action, arguments[1:])
        else:
            _generate(action, arguments[1:])
    except ValueError as error:
        complain(error)
        return USAGE
    return DONE


def _look(action: str, arguments: Sequence[str]) -> None:
    flags = read_flags(load_parser(f"{PROGRAM} {action}", "Takes the flags of a load."), arguments)
    effective = effective_config(flags.job_file, flags.profile, flags.settings, os.environ)
    flags.checked_beam_args()
    if action == "show":
        _show(effective)
    else:
        print("the configuration is valid")


def _show(effective: Effective) -> None:
    """Single values as a table; what has structure below it, as job.yaml would have it."""
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, value in effective.config.model_dump(mode="json").items():
        origin = effective.origins[name]
        if name not in YAML_ONLY:
            table.add_row(name, Text(redact(_as_text(value))), Text(origin), style="dim" if origin == DEFAULT else "")
    Console(soft_wrap=True).print(table)
    declared = effective.config.model_dump(mode="json", include=set(YAML_ONLY), exclude_defaults=True)
    for name, value in declared.items():
        print(f"\n# from {effective.origins[name]}")
        print(redact(yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=120).rstrip()))


def _as_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _generate(action: str, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {action}")
    parser.add_argument("--output", metavar="FILE", help="Write it there instead of printing it.")
    output = parser.parse_args(arguments).output
    text = configuration_reference() if action == "docs" else json.dumps(job_schema(), indent=2, ensure_ascii=False)
    if output is None:
        print(text.rstrip())
        return
    try:
        Path(output).write_text(text.rstrip() + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--output {output}: {error.strerror}; give a file in a directory that exists") from None
