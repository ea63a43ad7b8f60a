"""Rejects by reason, with examples, from the files that users get; reads a bounded part of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

from beam_etl.storage import storage_for

MOST_LINES = 100_000  # of a table; more rejects are a wreck that nobody understands better for being counted
MOST_EXAMPLES = 3
MOST_REASONS = 20
MOST_RAW_CHARACTERS = 300


@dataclasses.dataclass(frozen=True)
class Example:
    """A rejected record: where it is, and the beginning of what it holds."""

    place: str
    raw: str


@dataclasses.dataclass
class RejectReason:
    """The rejects of one reason. column is "" where the whole record is at fault."""

    code: str
    column: str
    reason: str
    count: int = 0
    examples: list[Example] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class RejectSummary:
    """The most frequent reasons first.

    Attributes:
      reasons: MOST_REASONS of them at most.
      counted: rejects that were looked at.
      complete: whether these are all reasons of all rejects.
    """

    reasons: tuple[RejectReason, ...] = ()
    counted: int = 0
    complete: bool = True


def summarise_rejects(directory: str) -> RejectSummary:
    """What the rejects below a directory say; nothing for "" and for a directory that is gone."""
    if not directory:
        return RejectSummary()
    found: dict[tuple[str, str, str], RejectReason] = {}
    counted = 0
    lines = _lines(directory)
    for line in itertools.islice(lines, MOST_LINES):
        reject = json.loads(line)
        key = (reject["code"], reject["column"], reject["reason"])
        reason = found.setdefault(key, RejectReason(*key))
        reason.count += 1
        counted += 1
        if len(reason.examples) < MOST_EXAMPLES:
            reason.examples.append(_example(reject))
    reasons = sorted(found.values(), key=lambda reason: -reason.count)
    complete = next(lines, None) is None and len(reasons) <= MOST_REASONS
    return RejectSummary(tuple(reasons[:MOST_REASONS]), counted, complete)


def _lines(directory: str) -> Iterator[bytes]:
    storage = storage_for(directory)
    for path, _ in storage.list_files(directory):
        if path.endswith(".jsonl"):
            with storage.open_read(path) as stream:
                yield from stream


def _example(reject: dict[str, Any]) -> Example:
    place = reject["file"] + (f"!{reject['member']}" if reject["member"] else "")
    if reject["line"]:
        place += f", line {reject['line']:,}"
    raw = reject["raw"]
    shortened = raw[:MOST_RAW_CHARACTERS] + ("…" if len(raw) > MOST_RAW_CHARACTERS else "")
    return Example(place, f"base64: {shortened}" if shortened and reject["raw_encoding"] == "base64" else shortened)
