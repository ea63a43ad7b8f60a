"""The reports of all loads of a lake, and the earlier loads of a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from beam_etl.storage import join_path, storage_for

REPORT_NAME = "report.json"


def read_history(output: str) -> list[dict[str, Any]]:
    """Every report of the lake, in the order in which the loads were planned.

    A load that has no report yet is none. Reads only.

    Raises:
      ValueError: a report is not JSON; names it.
    """
    storage = storage_for(output)
    directory = join_path(output, "_beam_etl/loads")
    reports = []
    for path, _ in storage.list_files(directory):
        # One level down only: a table may be called report.
        load_id, _, name = path[len(directory) + 1 :].partition("/")
        if name == REPORT_NAME:
            try:
                reports.append(json.loads(storage.read_bytes(path)))
            except ValueError as error:
                raise ValueError(f"the report of load {load_id} is damaged ({error}); delete {path}") from error
    return sorted(reports, key=lambda report: (report["created"], report["load_id"]))


@dataclasses.dataclass(frozen=True)
class TableLoad:
    """What one load did to a table."""

    load_id: str
    created: str
    published: bool
    files: int
    bytes: int
    records_in: int
    rows: int
    rejects: int
    seconds: float
    columns: dict[str, str]

    @property
    def reject_ratio(self) -> float:
        return self.rejects / self.records_in if self.records_in else 0.0

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Drift:
    """How the columns of a table differ from those of the load before. retyped: name -> (type before, type now)."""

    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    retyped: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.missing or self.retyped)


def table_loads(history: Sequence[dict[str, Any]], table: str) -> list[TableLoad]:
    """What the loads did to a table, oldest first; those that found all its files loaded already did nothing."""
    loads = []
    for report in history:
        entry = report["tables"].get(table)
        if entry is not None and entry["files"]:
            loads.append(
                TableLoad(
                    load_id=report["load_id"],
                    created=report["created"],
                    columns={column["name"]: column["type"] for column in entry["schema"]},
                    **{name: entry[name] for name in _COPIED},
                )
            )
    return loads


_COPIED = ("published", "files", "bytes", "records_in", "rows", "rejects", "seconds")


def drift(before: TableLoad | None, now: TableLoad) -> Drift:
    """What changed in the columns since the load before; nothing where either of them knows no columns."""
    if before is None or not before.columns or not now.columns:
        return Drift()
    both = before.columns.keys() & now.columns.keys()
    return Drift(
        added=tuple(name for name in now.columns if name not in both),
        missing=tuple(name for name in before.columns if name not in both),
        retyped={
            name: (before.columns[name], now.columns[name])
            for name in now.columns
            if name in both and before.columns[name] != now.columns[name]
        },
    )
