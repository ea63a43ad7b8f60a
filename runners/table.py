"""The one table of places: `--runner=NAME` -> Place."""

from __future__ import annotations

from collections.abc import Sequence

from runners.dataflow import DATAFLOW
from runners.direct import DIRECT
from runners.flink import FLINK
from runners.place import Place, filled_in
from runners.prism import PRISM

PLACES: tuple[Place, ...] = (DIRECT, PRISM, FLINK, DATAFLOW)
# Beam's own names of the in-process runner: whoever asks for them by name needs the same safety.
_ALIASES = {"fnapi": DIRECT, "switchingdirect": DIRECT}


def place_for(runner_name: str) -> Place:
    """The place of a runner's name, written as Beam accepts it: any case, `Runner` or not, or a class's full path.

    Any other name is handed to Beam as it stands, with no defaults and no checks.
    """
    by_name = {_short(place.name): place for place in PLACES} | _ALIASES
    return by_name.get(_short(runner_name)) or _passed_through(runner_name)


def _short(runner_name: str) -> str:
    return runner_name.rsplit(".", 1)[-1].lower().removesuffix("runner")


def _passed_through(runner_name: str) -> Place:
    def options(args: Sequence[str], cores: int) -> list[str]:
        return filled_in(args, runner_name, {})

    return Place(name=runner_name, summary="a runner of Beam's or of your own, passed through", options=options)
