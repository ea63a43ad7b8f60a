"""Named places where a test or the chaos suite makes the program die, fail, stop or wait.

`hit(name)` is an empty function unless the environment variable BEAM_ETL_FAILPOINTS was set when this module was
imported, so the places cost nothing in a load. The variable holds rules separated by ";":

    <failpoint>=<action>[:<argument>][@<n>]      for example  postgres.after_ledger=kill@3;storage.mid_move=sleep:0.5

The action happens at the n-th hit of the failpoint in this process, the first by default, and once:

    kill    SIGKILL to the own process: no handler, no flush, no goodbye
    stop    SIGSTOP to the own process: a zombie as soon as somebody else goes on, until SIGCONT
    raise   a FailpointError, which nothing retries
    lose    the answer of what was just done is lost: the transient error that a broken connection or disk would raise
    sleep   the calling thread waits for that many seconds
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

VARIABLE = "BEAM_ETL_FAILPOINTS"

# Every failpoint, and how often a load of a dozen chunks passes it: what a nemesis needs to choose a hit.
FAILPOINTS: Mapping[str, int] = {
    "load.planned": 1,  # the plan is frozen, nothing else is done
    "postgres.before_ledger": 12,  # in the transaction of a chunk, before its ledger row
    "postgres.after_ledger": 12,  # the row is entered, no row of the chunk is copied
    "postgres.mid_copy": 24,  # a batch of the COPY is sent
    "postgres.before_commit": 30,  # of any transaction, the publishing one included
    "postgres.after_commit": 30,  # committed, and the caller does not know yet
    "parquet.file_closed": 12,  # the chunk's file is durable, its record is not written
    "parquet.recorded": 12,  # the commit record is durable
    "storage.after_create": 14,  # a create-if-absent took effect, and the caller does not know yet
    "storage.mid_move": 12,  # one file of several is renamed
    "publish.before_postgres": 1,
    "publish.swapped": 1,  # in PostgreSQL's publishing transaction, after the swap
    "publish.between_sinks": 1,  # PostgreSQL shows the table, Parquet does not
    "publish.before_moves": 1,  # Parquet: the old _SUCCESS is gone, no file is moved
    "publish.before_manifest": 1,  # Parquet: all files are moved
    "publish.after_manifest": 1,  # Parquet: published, old files and staging are still there
    "publish.after_success": 1,  # Parquet: finished, the intent is still there
    "load.before_report": 1,  # every table is published, no report tells it
}


def _connection_error(text: str) -> Exception:
    import psycopg

    return psycopg.OperationalError(text)


def _disk_error(text: str) -> Exception:
    return OSError(errno.EIO, text)


# Where a lost answer is retried inside the program; elsewhere losing it would be raising.
_LOSES: Mapping[str, Callable[[str], Exception]] = {"postgres.": _connection_error, "storage.": _disk_error}
_ACTIONS = ("kill", "stop", "raise", "lose", "sleep")
_RULE = re.compile(r"(?P<name>[\w.]+)=(?P<action>[a-z]+)(?::(?P<argument>[\d.]+))?(?:@(?P<nth>[1-9]\d*))?")


class FailpointError(Exception):
    """Raised by the action `raise`."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What happens at a failpoint: the action, its argument in seconds (sleep alone has one), and at which hit."""

    name: str
    action: str
    seconds: float
    nth: int


def parse_rules(text: str) -> list[Rule]:
    """The rules in a value of BEAM_ETL_FAILPOINTS.

    Raises:
      ValueError: a rule is malformed or names an unknown failpoint or action.
    """
    return [_parse_rule(part.strip()) for part in text.split(";") if part.strip()]


def can_lose(name: str) -> bool:
    """Whether the action `lose` exists at a failpoint."""
    return any(name.startswith(prefix) for prefix in _LOSES)


def _parse_rule(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None or match["action"] not in _ACTIONS:
        raise ValueError(f"{VARIABLE}: {text!r} is not <failpoint>=<{'|'.join(_ACTIONS)}>[:<seconds>][@<n>]")
    name, action = match["name"], match["action"]
    if name not in FAILPOINTS:
        raise ValueError(f"{VARIABLE}: there is no failpoint {name!r}; there are {', '.join(FAILPOINTS)}")
    if (action == "sleep") != (match["argument"] is not None):
        raise ValueError(f"{VARIABLE}: {text!r}: sleep, and it alone, needs seconds, as in sleep:0.5")
    if action == "lose" and not can_lose(name):
        raise ValueError(f"{VARIABLE}: {text!r}: nothing retries there; lose is for {', '.join(_LOSES)}*")
    return Rule(name, action, float(match["argument"] or 0), int(match["nth"] or 1))


class _Armed:
    """The rules of a process, and its hits so far."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = {(rule.name, rule.nth): rule for rule in rules}
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hit(self, name: str) -> None:
        with self._lock:
            self._hits[name] += 1
            rule = self._rules.get((name, self._hits[name]))
        if rule is not None:
            _act(rule)


def _act(rule: Rule) -> None:
    if rule.action == "sleep":
        time.sleep(rule.seconds)
    elif rule.action == "raise":
        raise FailpointError(f"failpoint {rule.name}")
    elif rule.action == "lose":
        make_error = next(make for prefix, make in _LOSES.items() if rule.name.startswith(prefix))
        raise make_error(f"failpoint {rule.name}: the answer was lost")
    else:
        os.kill(os.getpid(), signal.SIGKILL if rule.action == "kill" else signal.SIGSTOP)


def _hit_nothing(name: str) -> None:
    """What `hit` is in every load: nothing."""


# Called as failpoints.hit(...), never imported by name, so that arming takes effect everywhere.
hit: Callable[[str], None] = _hit_nothing


def arm(text: str) -> None:
    """Makes `hit` follow the rules in this process from now on, with no hit counted yet; "" disarms it.

    Raises:
      ValueError: as parse_rules.
    """
    global hit
    rules = parse_rules(text)
    hit = _Armed(rules).hit if rules else _hit_nothing


arm(os.environ.get(VARIABLE, ""))
