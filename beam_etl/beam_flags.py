"""Which flags Beam itself knows, so that a mistyped flag is refused instead of ignored."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Sequence

from apache_beam.options.pipeline_options import PipelineOptions


def beam_flags() -> set[str]:
    """The flags of all of Beam's option classes that are loaded."""
    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for options in [PipelineOptions, *_subclasses(PipelineOptions)]:
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)  # type: ignore[attr-defined]
    return {flag for action in parser._actions for flag in action.option_strings}


def unknown_flags(arguments: Sequence[str], own_flags: Collection[str]) -> list[str]:
    """One line for each flag that is neither this program's nor Beam's, with the nearest one that is."""
    known = beam_flags()
    problems = []
    for argument in arguments:
        flag = argument.split("=", 1)[0]
        if flag.startswith("-") and flag not in known:
            near = difflib.get_close_matches(flag, sorted({*known, *own_flags}), n=1)
            problems.append(f"{flag}: unknown flag" + (f"; did you mean {near[0]}?" if near else "; see --help"))
    return problems


def _subclasses(options: type) -> list[type]:
    found = []
    for subclass in options.__subclasses__():
        found += [subclass, *_subclasses(subclass)]
    return found
