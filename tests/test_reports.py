"""report.html and history.html: what they say, and that nothing in them is run or fetched."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from beam_etl.reports.history import Drift, TableLoad, drift, read_history, table_loads
from beam_etl.reports.pages import (
    MOST_CHARTED_TABLES,
    render_history,
    render_report,
    try_report_page,
    write_history_page,
)
from beam_etl.reports.reject_summary import MOST_RAW_CHARACTERS, summarise_rejects
from tests.landed import run

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "br", "link"}


class _Page(HTMLParser):
    """Checks that tags nest, and keeps tags, addresses and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.addresses, self.text = [], set(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_text(page):
    return " ".join(" ".join(page.text).split())


def report(load_id="a-000", created="2026-01-01T00:00:00+00:00", tables=("t",), **changes):
    entry = {
        "mode": "replace",
        "records_in": 10,
        "rows": 9,
        "rejects": 1,
        "rejected_files": 0,
        "files": 2,
        "skipped": 0,
        "bytes": 3_000_000,
        "schema": [{"name": "id", "type": "bigint", "postgres": "bigint", "declared": False}],
        "balanced": True,
        "published": True,
        "reasons": [],
        "seconds": 1.5,
        "rejects_directory": "",
        "dialects": [],
        **changes,
    }
    published = entry["published"]
    values = {"load_id": load_id, "created": created, "published": published, "seconds": 1.5}
    return {**values, "tables": dict.fromkeys(tables, entry)}


def write(lake, *reports):
    for one in reports:
        directory = lake / "_beam_etl/loads" / one["load_id"]
        directory.mkdir(parents=True)
        (directory / "report.json").write_text(json.dumps(one))


def write_rejects(directory, *rejects):
    directory.mkdir()
    (directory / "c.jsonl").write_text("".join(json.dumps(reject) + "\n" for reject in rejects))
    return str(directory)


def reject(**changes):
    values = {"file": "f.csv", "member": "", "line": 2, "column": "id", "code": "bad_value"}
    return {**values, "reason": "the value is not a bigint", "raw": "x;y", "raw_encoding": "utf-8", **changes}


def test_a_published_load_says_so_with_its_figures():
    page = _Page(render_report(report(), []))
    text = page_text(page)
    assert "Every table is published." in text
    assert "1 (10.00%)" in text and "3.0 MB" in text and "2.0 MB/s" in text and "balanced" in text
    assert "Earlier loads" not in text and "svg" not in page.tags


def test_a_table_that_is_not_published_says_why():
    text = page_text(_Page(render_report(report(published=False, balanced=False, reasons=["a hole"]), [])))
    assert "1 of 1 tables is not published." in text and "not published: a hole" in text and "not balanced" in text


def test_nothing_hostile_is_run_and_nothing_is_fetched(tmp_path):
    rejects = write_rejects(
        tmp_path / "rejects", reject(column=HOSTILE, raw=HOSTILE, file=HOSTILE, reason=HOSTILE, code="bad_value")
    )
    dialect = {"file": HOSTILE, "member": HOSTILE, "encoding": "utf-8", "delimiter": "\x01", "quote": '"'}
    hostile = report(
        tables=(HOSTILE,),
        reasons=[HOSTILE],
        rejects_directory=rejects,
        schema=[{"name": HOSTILE, "type": "string", "postgres": "text", "declared": True}],
        dialects=[{**dialect, "confidence": 0.5}],
    )
    before = report(load_id="0-000", created="2025-12-31", tables=(HOSTILE,))
    for text in (render_report(hostile, [before, hostile]), render_history([before, hostile])):
        page = _Page(text)
        assert not page.tags & {"script", "img", "link", "iframe", "object", "base"}
        assert all(address.startswith(("#", "loads/")) for address in page.addresses)
        assert not re.search(r"url\(|@import", text)
        assert set(re.findall(r"https?://[^\"' <>)]+", text)) <= {"http://www.w3.org/2000/svg"}  # a name, no address
        assert "svg" in page.tags
    assert HOSTILE in "".join(_Page(render_report(hostile, [])).text)


def test_rejects_are_counted_by_reason_with_some_examples(tmp_path):
    long = "ä" * (MOST_RAW_CHARACTERS + 1)
    directory = write_rejects(
        tmp_path / "rejects",
        reject(code="ragged_record", column="", reason="3 fields", raw=long, line=7, member="m.csv"),
        *[reject(line=line) for line in (2, 3, 4, 5)],
        reject(code="corrupt_file", column="", reason="cut off", line=0, raw="AAE=", raw_encoding="base64"),
    )
    summary = summarise_rejects(directory)
    assert summary.complete and summary.counted == 6
    first, second, third = summary.reasons
    assert (first.code, first.column, first.count) == ("bad_value", "id", 4)
    assert [example.place for example in first.examples] == ["f.csv, line 2", "f.csv, line 3", "f.csv, line 4"]
    assert second.examples[0].place == "f.csv!m.csv, line 7"
    assert second.examples[0].raw == "ä" * MOST_RAW_CHARACTERS + "…"
    assert (third.examples[0].place, third.examples[0].raw) == ("f.csv", "base64: AAE=")


def test_rejects_beyond_the_bound_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_etl.reports.reject_summary.MOST_LINES", 3)
    directory = write_rejects(tmp_path / "rejects", *[reject()] * 4)
    summary = summarise_rejects(directory)
    assert (summary.counted, summary.complete) == (3, False)
    assert "Only the first 3 rejects" in page_text(_Page(render_report(report(rejects_directory=directory), [])))


def test_no_rejects_are_nothing(tmp_path):
    assert summarise_rejects("").counted == 0
    assert summarise_rejects(str(tmp_path / "gone")).reasons == ()


def test_history_is_every_load_in_the_order_of_planning(tmp_path):
    write(tmp_path, report("b-000", "2026-01-01"), report("a-000", "2026-01-02"))
    (tmp_path / "_beam_etl/loads/c-000").mkdir()  # planned, and without a report yet
    (tmp_path / "_beam_etl/loads/a-000/tables").mkdir()
    (tmp_path / "_beam_etl/loads/a-000/tables/report.json").write_text("[]")
    assert [one["load_id"] for one in read_history(str(tmp_path))] == ["b-000", "a-000"]
    assert read_history(str(tmp_path / "none")) == []


def test_a_damaged_report_is_named(tmp_path):
    write(tmp_path, report())
    (tmp_path / "_beam_etl/loads/a-000/report.json").write_text("{")
    with pytest.raises(ValueError, match="report of load a-000 is damaged"):
        read_history(str(tmp_path))


def test_a_page_that_cannot_be_written_fails_no_load(tmp_path, caplog):
    try_report_page(str(tmp_path), "none-000")
    assert "report.html of load none-000 was not written: load 'none-000' has no report" in caplog.text


def test_loads_of_a_table_leave_out_those_that_had_nothing_to_do():
    history = [report("a"), report("b", files=0), report("c", tables=("u",)), report("d", rows=5)]
    loads = table_loads(history, "t")
    assert [(load.load_id, load.rows) for load in loads] == [("a", 9), ("d", 5)]
    assert loads[0].reject_ratio == 0.1 and loads[0].bytes_per_second == 2_000_000


def load_of(**columns):
    return TableLoad("l", "c", True, 1, 1, 0, 0, 0, 0.0, columns)


def test_drift_names_what_is_new_missing_and_of_another_type():
    found = drift(load_of(a="bigint", b="string"), load_of(a="string", c="date"))
    assert found == Drift(("c",), ("b",), {"a": ("bigint", "string")})
    assert not drift(load_of(a="bigint"), load_of(a="bigint"))
    assert not drift(None, load_of(a="bigint"))
    assert not drift(load_of(), load_of(a="bigint"))


def test_a_report_is_compared_with_the_loads_before_it_only():
    column = {"name": "new", "type": "date", "postgres": "date", "declared": False}
    before, after = report("a", "2026-01-01", rows=7), report("c", "2026-01-03", rows=777)
    now = report("b", "2026-01-02", schema=[column])
    text = page_text(_Page(render_report(now, [before, now, after])))
    assert "missing: id" in text and "added: new" in text and "777" not in text


def test_only_the_first_tables_have_charts():
    names = [f"t{number:02}" for number in range(MOST_CHARTED_TABLES + 1)]
    text = render_report(report("b", "2026-01-02", tables=names, rejects=0), [report(tables=names, rejects=0)])
    assert text.count("<svg") == MOST_CHARTED_TABLES
    assert text.count("Earlier loads") == len(names)


def test_the_history_page_links_to_the_reports(tmp_path):
    write(tmp_path, report("a-000"), report("b-000", "2026-01-02", published=False))
    page = _Page(Path(write_history_page(str(tmp_path))).read_text())
    assert page.addresses == ["loads/b-000/report.html", "loads/a-000/report.html"]


def test_a_load_leaves_its_page_and_commands_find_it(tmp_path):
    lake, command = tmp_path / "lake", ("--input", tmp_path / "people.csv", "--max_reject_ratio=0.5", "--output")
    (tmp_path / "people.csv").write_text("id,name\n1,a\n2\n3,c\n4,d\n")
    assert run(*command, lake).code == 0
    [path] = lake.glob("_beam_etl/loads/*/report.html")
    load_id = path.parent.name
    assert f"{load_id}/report.html" in run(*command, lake).out
    text = page_text(_Page(path.read_text()))
    assert "Every table is published." in text and "1 fields where 2 are expected" in text
    lake = lake.rename(tmp_path / "moved")
    path = lake / path.relative_to(tmp_path / "lake")
    path.unlink()
    for name in (load_id, "last"):
        again = run("report", name, "--output", lake)
        assert again.code == 0 and str(path) in again.out and "people" in again.out
        assert page_text(_Page(path.read_text())) == text.replace(f"{tmp_path}/lake", f"{tmp_path}/moved")
    history = run("history", "--output", lake)
    assert history.code == 0 and load_id in history.out
    assert load_id in (lake / "_beam_etl/history.html").read_text()


def test_commands_say_what_is_not_there(tmp_path):
    assert "has a report yet" in run("history", "--output", tmp_path).out
    missing = run("report", "x-000", "--output", tmp_path)
    assert missing.code == 2 and "load 'x-000' has no report" in missing.err
    assert run("report", "last", "--output", tmp_path).code == 2
    assert "is no load" in run("report", "../x", "--output", tmp_path).err


CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.mark.slow
def test_a_browser_shows_the_page_without_a_network(tmp_path):
    assert shutil.which("chromium"), "install chromium (apt-get install chromium) to run the slow tests"
    before = report("a", "2026-01-01", rows=7)
    now = report("b", "2026-01-02", reasons=[HOSTILE])
    path = tmp_path / "report.html"
    path.write_text(render_report(now, [before, now]))
    command = [*CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "Every table is published." in dom and "&lt;script&gt;alert" in dom and "<svg" in dom
