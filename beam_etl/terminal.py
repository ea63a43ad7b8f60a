"""What every command writes to the terminal the same way: complaints, and logs."""

from __future__ import annotations

import datetime
import io
import json
import logging
import sys
from pathlib import Path
from typing import TextIO

from beam_etl.progress.board import BOARD
from beam_etl.secrets import redact

_EXTRA_KEYS = ("load_id", "table", "chunk", "step", "seconds", "rows")


def complain(problem: object) -> None:
    """Each line of a problem to standard error, in the program's name."""
    as_json = any(isinstance(handler.formatter, _JsonLines) for handler in logging.getLogger().handlers)
    for line in redact(str(problem)).splitlines():
        if as_json:
            logging.getLogger("beam_etl").error("%s", line)
            continue
        print(f"beam_etl: {line}", file=sys.stderr)  # noqa: T201


def set_up_logging(verbose: bool) -> None:
    handler = _ToStandardError()
    if not verbose:
        handler.addFilter(_not_of_the_runner)
    level = logging.INFO if verbose else logging.WARNING
    handler.setFormatter(_WithoutSecrets("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def log_as_json() -> None:
    """From now on every entry of the log is an object a line, complaints are entries, and each committed chunk is one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _ToStandardError):
            handler.setFormatter(_JsonLines())
    for package in ("beam_etl", "transforms"):
        logging.getLogger(package).setLevel(logging.INFO)


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


class _JsonLines(logging.Formatter):
    """An object a line: time (UTC), level, logger, message, and what is known of load_id, table, chunk, step, seconds, rows."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname, "logger": record.name, "message": redact(record.getMessage())}
        if BOARD.load_id:
            entry["load_id"] = BOARD.load_id
        entry |= {key: getattr(record, key) for key in _EXTRA_KEYS if hasattr(record, key)}
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def _not_of_the_runner(record: logging.LogRecord) -> bool:
    """False for what Beam logs under any name: the whole traceback of each failed element, which the closing message
    sums up, and, in Prism's name, whatever that program prints."""
    return "apache_beam" not in Path(record.pathname).parts
