"""report.html of one load, and history.html of all: whole files that need no network, no script and no other file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import jinja2

from beam_etl.loads.plan import load_directory, read_report
from beam_etl.loads.reject_files import rejects_directory
from beam_etl.reports.charts import bar_chart
from beam_etl.reports.history import TableLoad, drift, read_history, table_loads
from beam_etl.reports.reject_summary import summarise_rejects
from beam_etl.storage import join_path, storage_for

logger = logging.getLogger(__name__)

MOST_TABLES = 200
# A chart takes milliseconds and ten kilobytes: every load waits for this page.
MOST_CHARTED_TABLES = 10
MOST_EARLIER_LOADS = 10
MB = 1_000_000


def report_path(output: str, load_id: str) -> str:
    return f"{load_directory(output, load_id)}/report.html"


def history_path(output: str) -> str:
    return join_path(output, "_beam_etl/history.html")


def write_report_page(output: str, load_id: str) -> str:
    """Writes report.html beside the load's report.json and returns its path; replaces itself.

    Raises:
      ValueError: there is no such report.
    """
    report = read_report(output, load_id)
    if report is None:
        raise ValueError(
            f"load {load_id!r} has no report in {output}; python -m beam_etl history lists those that have"
        )
    for table, entry in report["tables"].items():
        if entry[
            "rejects_directory"
        ]:  # as the load was told it; the lake may have been moved, or be seen from elsewhere
            entry["rejects_directory"] = rejects_directory(output, load_id, table)
    path = report_path(output, load_id)
    storage_for(path).write_atomic(path, render_report(report, read_history(output)).encode())
    return path


def write_history_page(output: str) -> str:
    """Writes the page of all loads and returns its path; replaces itself."""
    path = history_path(output)
    storage_for(path).write_atomic(path, render_history(read_history(output)).encode())
    return path


def try_report_page(output: str, load_id: str) -> None:
    """report.html after a load. Whatever goes wrong with the page, the load is what it is: the log says why there is none."""
    try:
        write_report_page(output, load_id)
    except (OSError, ValueError, KeyError, jinja2.TemplateError) as error:
        logger.warning("report.html of load %s was not written: %s", load_id, error)


def render_report(report: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
    """The page of one load.

    Args:
      history: all loads of the lake, oldest first; those before this one are what it is compared with.
    """
    earlier = [other for other in history if _order(other) < _order(report)]
    tables = [
        _table(name, report, earlier, position < MOST_CHARTED_TABLES)
        for position, name in enumerate(sorted(report["tables"])[:MOST_TABLES])
    ]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            tables=tables,
            left_out=len(report["tables"]) - len(tables),
            totals=load_totals(report),
        )
    )


def render_history(history: Sequence[dict[str, Any]]) -> str:
    """The page of all loads, the last one first."""
    loads = [{"report": report, "totals": load_totals(report)} for report in reversed(history)]
    recent = list(reversed(loads[:20]))
    charts = []
    if len(recent) > 1:
        labels = [_moment(load["report"]["created"]) for load in recent]
        charts = [
            bar_chart("Rows by load", labels, {"rows": [load["totals"]["rows"] for load in recent]}),
            bar_chart("MB/s by load", labels, {"MB/s": [load["totals"]["mb_per_second"] for load in recent]}),
        ]
    return _environment().get_template("history.html.j2").render(loads=loads, charts=charts)


def load_totals(report: dict[str, Any]) -> dict[str, Any]:
    """Sums over the tables of a load, and its rate in MB of input a second."""
    entries = report["tables"].values()
    sums = {name: sum(entry[name] for entry in entries) for name in _SUMMED}
    seconds = report["seconds"]
    return {
        **sums,
        "published": sum(entry["published"] for entry in entries),
        "tables": len(report["tables"]),
        "reject_ratio": sums["rejects"] / sums["records_in"] if sums["records_in"] else 0.0,
        "mb_per_second": sums["bytes"] / MB / seconds if seconds > 0 else 0.0,
    }


_SUMMED = ("records_in", "rows", "rejects", "rejected_files", "files", "skipped", "bytes")


def _table(name: str, report: dict[str, Any], earlier: Sequence[dict[str, Any]], charted: bool) -> dict[str, Any]:
    entry = report["tables"][name]
    loads = table_loads([*earlier, report], name)
    now = loads[-1] if loads and loads[-1].load_id == report["load_id"] else None
    before = [load for load in loads if load is not now]
    published_before = [load for load in before if load.published]
    shown = loads[-MOST_EARLIER_LOADS:]
    return {
        "name": name,
        "entry": entry,
        "rejects": summarise_rejects(entry["rejects_directory"]),
        "drift": drift(published_before[-1] if published_before else None, now) if now else None,
        "earlier": list(reversed(before[-MOST_EARLIER_LOADS:])),
        "charts": _charts(shown) if charted and len(shown) > 1 else [],
    }


def _charts(loads: Sequence[TableLoad]) -> list[str]:
    labels = [_moment(load.created) for load in loads]
    charts = [bar_chart("Rows by load", labels, {"rows": [load.rows for load in loads]})]
    if any(load.rejects for load in loads):
        charts.append(bar_chart("Rejects by load", labels, {"rejects": [load.rejects for load in loads]}))
    return charts


def _moment(created: str) -> str:
    """Month, day and minute: all that fits below a bar."""
    return created[5:16].replace("T", " ")


def _order(report: dict[str, Any]) -> tuple[str, str]:
    return report["created"], report["load_id"]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("beam_etl.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["megabytes"] = lambda value: f"{value / MB:,.1f} MB"
    environment.filters["percent"] = lambda value: f"{value:.2%}"
    environment.filters["evidence"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment
