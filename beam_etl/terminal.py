"""What every command writes to the terminal the same way: complaints, and logs."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import TextIO

from beam_etl.secrets import redact


def complain(problem: object) -> None:
    """Each line of a problem to standard error, in the program's name."""
    for line in redact(str(problem)).splitlines():
        print(f"beam_etl: {line}", file=sys.stderr)  # noqa: T201


def set_up_logging(verbose: bool) -> None:
    handler = _ToStandardError()
    if not verbose:
        handler.addFilter(_not_of_the_runner)
    level = logging.INFO if verbose else logging.WARNING
    handler.setFormatter(_WithoutSecrets("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class WithoutTracebacks(io.TextIOBase):
    """Standard error without the tracebacks that Beam's workers print there, past any logging, for a failed element."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        line_end_of_dropped = self._dropped and text == "\n"  # print() writes it separately
        self._dropped = text.startswith("Traceback (most recent call last):")
        if not self._dropped and not line_end_of_dropped:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


class _ToStandardError(logging.Handler):
    """Whatever that is at the time: while a table is drawn on the terminal, lines have to come above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  as every handler of logging does
            self.handleError(record)


class _WithoutSecrets(logging.Formatter):
    """Whole records, tracebacks too, in which no secret is shown."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _not_of_the_runner(record: logging.LogRecord) -> bool:
    """False for what Beam logs under any name: the whole traceback of each failed element, which the closing message
    sums up, and, in Prism's name, whatever that program prints."""
    return "apache_beam" not in Path(record.pathname).parts
