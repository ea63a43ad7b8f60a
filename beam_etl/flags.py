"""The flags of a load, one for each scalar or list field of EtlConfig; other commands take the same."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from beam_etl.config import YAML_ONLY, EtlConfig


@dataclasses.dataclass(frozen=True)
class Flags:
    """What a command line says.

    Attributes:
      settings: field of EtlConfig -> value, None where no flag gives one.
      job_file: of --config.
      profile: of --profile.
      verbose: whether to log what the run does.
      quiet: whether to write nothing but problems.
      beam_args: what is left: flags of Beam and its runner, if they are.
      own: all flags of this program.
    """

    settings: Mapping[str, Any]
    job_file: str | None
    profile: str | None
    verbose: bool
    quiet: bool
    beam_args: tuple[str, ...]
    own: frozenset[str]

    def checked_beam_args(self) -> list[str]:
        """The flags of Beam.

        Raises:
          ValueError: neither this program nor Beam knows one, so that a typo never runs a load with a default.
        """
        if not self.beam_args:
            return []
        from beam_etl.beam_flags import unknown_arguments

        problems = unknown_arguments(self.beam_args, self.own)
        if problems:
            raise ValueError("\n".join(problems))
        return list(self.beam_args)


def load_parser(program: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """The parser of all flags of a load."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="job.yaml with any of these settings, and tables: what is declared."
    )
    parser.add_argument("--profile", metavar="NAME", help="Profile of job.yaml whose settings win over its others.")
    parser.add_argument("--verbose", action="store_true", help="Log what the run does.")
    for name, field in EtlConfig.model_fields.items():
        if name not in YAML_ONLY:
            parser.add_argument(f"--{name}", **_argument(field))
    return parser


def read_flags(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Flags:
    """What the arguments say, by a parser of load_parser's; leaves the program where a flag of its own is wrong."""
    known, beam_args = parser.parse_known_args(arguments)
    values = vars(known)
    own = frozenset(option for action in parser._actions for option in action.option_strings)
    return Flags(
        {name: values[name] for name in EtlConfig.model_fields if name not in YAML_ONLY},
        values["config"],
        values["profile"],
        values["verbose"],
        values.get("quiet", False),
        tuple(beam_args),
        own,
    )


def _argument(field: FieldInfo) -> dict[str, Any]:
    """argparse's keywords for a field; defaults stay with the model, so that job.yaml can set what no flag sets."""
    default = "" if field.default is None or field.is_required() else f" (default: {field.default})"
    argument: dict[str, Any] = {"default": None, "help": f"{field.description}{default}".replace("%", "%%")}
    if field.annotation is bool:
        return {**argument, "action": _Switch}
    if field.annotation == tuple[str, ...]:
        return {**argument, "action": "append", "metavar": "GLOB"}
    if get_origin(field.annotation) is tuple:
        return {**argument, "action": "append", "metavar": "NAME"}
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return {**argument, "choices": choices}
    return {**argument, "metavar": "VALUE"}


class _Switch(argparse.Action):
    """`--name` and `--no-name`; also `--name=true` and `--name=false`, as launchers of templates write it."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, default: object = None, help: str | None = None
    ) -> None:
        [option] = option_strings
        both = (option, f"--no-{option.removeprefix('--')}")
        super().__init__(both, dest, nargs="?", default=default, help=help, metavar="true|false")

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if values not in (None, "true", "false"):
            parser.error(f"argument {option_string}: give true or false, or the flag alone (given: {values!r})")
        negated = str(option_string).startswith("--no-")
        setattr(namespace, self.dest, (values != "false") != negated)
