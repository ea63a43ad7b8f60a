"""`chaos [flags]`: attacks loads of its own making for some minutes; see beam_etl.chaos.suite."""

from __future__ import annotations

from collections.abc import Sequence

from beam_etl.exit_codes import FAILED, USAGE
from beam_etl.terminal import complain


def main(arguments: Sequence[str]) -> int:
    from beam_etl.chaos.suite import main as attack

    try:
        return attack(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return FAILED
    except (OSError, RuntimeError, ValueError) as error:
        complain(error)
        return USAGE
