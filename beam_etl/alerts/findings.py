"""A report and the loads before it -> findings: one pure function."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from beam_etl.reports.history import table_loads

Severity = Literal["critical", "warning"]

# Of earlier loads that the rate of a table is held against; fewer than LEAST_BASELINE tell nothing.
MOST_BASELINE = 10
LEAST_BASELINE = 3


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """From where on something is a finding.

    Attributes:
      reject_ratio: share of a table's records that conversion rejected, above which that is critical.
      slow_ratio: share of the table's usual rate (median of its last published loads), below which that is a warning.
      slow_bytes: of smaller loads the rate says nothing, because starting takes longer than loading.

    Raises:
      ValueError: a ratio is not from 0 to 1.
    """

    reject_ratio: float = 0.02
    slow_ratio: float = 0.5
    slow_bytes: int = 100_000_000

    def __post_init__(self) -> None:
        for name in ("reject_ratio", "slow_ratio"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be from 0 to 1; 0.02 means 2 %")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that somebody should know of a load."""

    severity: Severity
    table: str
    code: str
    message: str


def evaluate(
    report: dict[str, Any], history: Sequence[dict[str, Any]], thresholds: Thresholds | None = None
) -> list[Finding]:
    """What is critical in a load first, then what is a warning; each by table. Nothing of a load is in the messages but
    names, numbers and the reasons in its report.

    Args:
      report: of the load.
      history: other loads, oldest first; those from the load itself on do not count.
    """
    limits = thresholds or Thresholds()
    order = (report["created"], report["load_id"])
    earlier = [other for other in history if (other["created"], other["load_id"]) < order]
    found: list[Finding] = []
    for table in sorted(report["tables"]):
        found += _of_table(table, report["tables"][table], earlier, limits)
    return sorted(found, key=lambda finding: finding.severity != "critical")


def _of_table(
    table: str, entry: dict[str, Any], earlier: Sequence[dict[str, Any]], limits: Thresholds
) -> list[Finding]:
    found = []
    if not entry["published"]:
        code = "not_published" if entry["balanced"] else "not_balanced"
        found.append(Finding("critical", table, code, "; ".join(entry["reasons"]) or "it is not published"))
    ratio = entry["rejects"] / entry["records_in"] if entry["records_in"] else 0.0
    if ratio > limits.reject_ratio:
        message = (
            f"{entry['rejects']:,} of {entry['records_in']:,} records were rejected ({ratio:.2%}, "
            f"threshold {limits.reject_ratio:.2%})"
        )
        found.append(Finding("critical", table, "rejects", message))
    if entry["rejected_files"]:
        message = f"{entry['rejected_files']:,} of {entry['files']:,} files could not be read"
        found.append(Finding("warning", table, "rejected_files", message))
    rates = [
        load.bytes_per_second for load in table_loads(earlier, table) if _tells(load.bytes, load.published, limits)
    ]
    if len(rates) >= LEAST_BASELINE and _tells(entry["bytes"], entry["published"], limits) and entry["seconds"] > 0:
        usual, rate = statistics.median(rates[-MOST_BASELINE:]), entry["bytes"] / entry["seconds"]
        if rate < limits.slow_ratio * usual:
            message = f"{rate / 1e6:.1f} MB/s, where {usual / 1e6:.1f} MB/s are usual"
            found.append(Finding("warning", table, "slow", message))
    return found


def _tells(size_bytes: int, published: bool, limits: Thresholds) -> bool:
    return published and size_bytes >= limits.slow_bytes
