"""Which flags Beam itself knows, so that a mistyped flag is refused instead of ignored."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions


class _BeamParser(argparse.ArgumentParser):
    """A parser that raises ValueError where argparse would print all of Beam's flags and leave the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def unknown_arguments(arguments: Sequence[str], own_flags: Collection[str]) -> list[str]:
    """One line for each argument that is neither this program's nor Beam's; a flag with the nearest one that is.

    Raises:
      ValueError: a flag of Beam has no value or a wrong one.
    """
    parser = _beam_parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    problems = []
    for argument in parser.parse_known_args(arguments)[1]:
        flag = argument.split("=", 1)[0]
        if not flag.startswith("-"):
            problems.append(f"{argument}: not the value of any flag; repeat --input for each file, or quote its glob")
            continue
        near = difflib.get_close_matches(flag, sorted({*known, *own_flags}), n=1)
        problems.append(f"{flag}: unknown flag" + (f"; did you mean {near[0]}?" if near else "; see --help"))
    return problems


def _beam_parser() -> _BeamParser:
    """The flags of all of Beam's option classes that are loaded."""
    parser = _BeamParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in [PipelineOptions, *_subclasses(PipelineOptions)]:
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)  # type: ignore[attr-defined]
    return parser


def _subclasses(options: type) -> list[type]:
    found: list[type] = []
    subclasses: list[type] = options.__subclasses__()
    for subclass in subclasses:
        found += [subclass, *_subclasses(subclass)]
    return found
