"""What every command writes to the terminal the same way: complaints, and logs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from beam_etl.secrets import redact


def complain(problem: object) -> None:
    """Each line of a problem to standard error, in the program's name."""
    for line in redact(str(problem)).splitlines():
        print(f"beam_etl: {line}", file=sys.stderr)  # noqa: T201


def set_up_logging(verbose: bool) -> None:
    handler = logging.StreamHandler()
    if not verbose:
        handler.addFilter(_not_of_the_runner)
    level = logging.INFO if verbose else logging.WARNING
    handler.setFormatter(_WithoutSecrets("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _WithoutSecrets(logging.Formatter):
    """Whole records, tracebacks too, in which no secret is shown."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _not_of_the_runner(record: logging.LogRecord) -> bool:
    """False for what Beam logs under any name: the whole traceback of each failed element, which the closing message
    sums up, and, in Prism's name, whatever that program prints."""
    return "apache_beam" not in Path(record.pathname).parts
