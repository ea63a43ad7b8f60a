import json
import time
from pathlib import Path

import pytest

from beam_etl.config import EtlConfig
from beam_etl.loads.books import TableBooks
from beam_etl.loads.plan import Selection, freeze_plan, read_report
from beam_etl.loads.publication import PublishedTable
from beam_etl.loads.report import LOST_TABLE, write_report
from beam_etl.model import SourceFile
from beam_etl.schema import ColumnSchema, TableSchema, parse_type
from beam_etl.sinks import SinkSettings

FILES = (SourceFile(0, "a.csv", "", "näme/1", 10, "v"), SourceFile(1, "b.csv", "", "u", 20, "v"))
SKIPPED = (SourceFile(2, "c.csv", "", "u", 30, "v"), SourceFile(3, "d.csv", "", "w", 40, "v"))
SCHEMA = TableSchema(
    (ColumnSchema("id", parse_type("bigint"), True), ColumnSchema("price", parse_type("decimal(9,2)")))
)


@pytest.fixture
def plan(tmp_path):
    config = EtlConfig(input=("x",), output=str(tmp_path))
    return freeze_plan(config, FILES, 1, lambda: Selection(FILES, SKIPPED), lambda plan: False, lambda plan: False)


def published(table, rows=3, rejects=0, **changes):
    books = TableBooks(table, SCHEMA.hash, rows + rejects, rows, rejects, {"parquet": rows}, files=1, bytes=10)
    return PublishedTable(books, SCHEMA, **{"published": True, "manifest": "m.json", **changes})


def write(tmp_path, plan, *tables):
    write_report(SinkSettings(str(tmp_path), plan.load_id), tables, time.time())
    return read_report(str(tmp_path), plan.load_id)


def test_a_report_says_all_of_every_table(tmp_path, plan):
    report = write(tmp_path, plan, published("näme/1", rejects=1), published("u"))
    assert (report["load_id"], report["created"], report["published"]) == (plan.load_id, plan.created, True)
    assert report["seconds"] >= 0
    entry = report["tables"]["näme/1"]
    assert entry == {
        **entry,
        "records_in": 4,
        "rows": 3,
        "rejects": 1,
        "rejected_files": 0,
        "mode": "replace",
        "files": 1,
        "skipped": 0,
        "bytes": 10,
        "schema": [
            {"name": "id", "type": "bigint", "postgres": "bigint", "declared": True},
            {"name": "price", "type": "decimal(9,2)", "postgres": "numeric(9,2)", "declared": False},
        ],
        "balanced": True,
        "published": True,
        "reasons": [],
        "parquet": f"{tmp_path}/n%C3%A4me%2F1",
        "manifest": "m.json",
        "rejects_directory": f"{tmp_path}/_beam_etl/rejects/{plan.load_id}/n%C3%A4me%2F1",
    }
    assert report["tables"]["u"]["rejects_directory"] == ""


def test_a_table_that_holds_all_its_files_is_published_and_had_nothing_to_do(tmp_path, plan):
    report = write(tmp_path, plan, published("näme/1"), published("u"))
    entry = report["tables"]["w"]
    assert (entry["published"], entry["files"], entry["skipped"], entry["rows"]) == (True, 0, 1, 0)
    assert report["tables"]["u"]["skipped"] == 1
    assert entry.keys() == report["tables"]["u"].keys()


def test_a_table_that_did_not_come_back_is_reported_as_lost(tmp_path, plan):
    report = write(tmp_path, plan, published("u"))
    assert not report["published"]
    lost = report["tables"]["näme/1"]
    assert (lost["published"], lost["balanced"], lost["reasons"]) == (False, False, [LOST_TABLE])
    assert (lost["files"], lost["bytes"], lost["rows"]) == (1, 10, 0)
    assert lost.keys() == report["tables"]["u"].keys()


def test_tables_of_an_earlier_run_keep_their_entry_and_others_are_replaced(tmp_path, plan):
    first = write(tmp_path, plan, published("u"), published("näme/1", published=False, reasons=("too many",)))
    assert not first["published"]
    second = write(tmp_path, plan, published("näme/1"))
    assert second["published"]
    assert second["tables"]["u"] == first["tables"]["u"]
    assert second["tables"]["näme/1"]["reasons"] == []


def test_a_late_run_cannot_unpublish_a_table(tmp_path, plan):
    first = write(tmp_path, plan, published("u"), published("näme/1"))
    late = write(tmp_path, plan, published("u", published=False, reasons=("its staging is gone",)))
    assert late["published"]
    assert late["tables"] == first["tables"]


def test_an_unpublished_table_names_no_place(tmp_path, plan):
    entry = write(tmp_path, plan, published("u", published=False, reasons=("why", "and why")))["tables"]["u"]
    assert (entry["parquet"], entry["reasons"]) == ("", ["why", "and why"])


def test_a_report_is_json_for_everybody(tmp_path, plan):
    path = write_report(SinkSettings(str(tmp_path), plan.load_id), [], time.time())
    text = Path(path).read_text(encoding="utf-8")
    assert "näme/1" in text
    assert json.loads(text)["published"] is False
