"""What a place is: where the graph runs = default Beam flags + checks with remedies, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

Options = Callable[[Sequence[str], int], list[str]]
Check = Callable[[Sequence[str]], list[str]]
StaticLanes = Callable[[Sequence[str], int], int]


def no_static_lanes(args: Sequence[str], cores: int) -> int:
    """The runner deals work out while it runs: 0, whatever the flags say."""
    return 0


def nothing_to_check(args: Sequence[str]) -> list[str]:
    """Every combination of flags is left to the runner itself."""
    return []


def nothing_to_prepare() -> None:
    """The runner needs nothing from the launching process."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One place where the graph can run.

    Attributes:
        name: What follows `--runner=`.
        summary: One line for `--help` and the docs.
        options: (the user's Beam arguments, cores of this machine) -> all Beam arguments: the user's unchanged, then a
            default for each flag that the user did not give. `--runner` is always replaced by what Beam calls it.
        check: The user's Beam arguments -> problems, each a sentence with flag and remedy; [] when fit to run.
        static_lanes: (arguments, cores) -> number of threads among which the runner deals elements out before it starts
            them, or 0 where work is dealt dynamically. Elements keyed by lane number 0..n-1 and grouped by it are
            processed by one thread a lane.
        prepare: Called once in the launching process, before the pipeline runs.
    """

    name: str
    summary: str
    options: Options
    check: Check = nothing_to_check
    static_lanes: StaticLanes = no_static_lanes
    prepare: Callable[[], None] = nothing_to_prepare


def flag_value(args: Sequence[str], flag: str) -> str | None:
    """The last value given to a flag, as argparse sees `--flag=value` and `--flag value`; None when it is absent.

    A flag without a value (the end of the arguments or another flag follows) has the value "".
    """
    value: str | None = None
    for position, argument in enumerate(args):
        name, separator, given = argument.partition("=")
        if name != f"--{flag}":
            continue
        following = args[position + 1] if position + 1 < len(args) else "--"
        value = given if separator else ("" if following.startswith("--") else following)
    return value


def filled_in(args: Sequence[str], runner: str, defaults: dict[str, str]) -> list[str]:
    """The user's arguments on Beam's runner, and each default whose flag the user did not give."""
    missing = [f"--{flag}={value}" for flag, value in defaults.items() if flag_value(args, flag) is None]
    return [f"--runner={runner}", *_without_runner(args), *missing]


def whole_number_problem(args: Sequence[str], flag: str, least: int, remedy: str) -> list[str]:
    """A problem when the flag is given and is not a whole number of at least `least`."""
    value = flag_value(args, flag)
    if value is None:
        return []
    try:
        fits = int(value) >= least
    except ValueError:
        fits = False
    return [] if fits else [f"--{flag}={value} is not a whole number of at least {least}: {remedy}"]


def _without_runner(args: Sequence[str]) -> list[str]:
    kept: list[str] = []
    value_follows = False
    for argument in args:
        if value_follows and not argument.startswith("--"):
            value_follows = False
            continue
        value_follows = argument == "--runner"
        if not value_follows and not argument.startswith("--runner="):
            kept.append(argument)
    return kept
