import contextlib
import io

import pytest
from rich.console import Console

from beam_etl.config import EtlConfig
from beam_etl.console import MAX_REASONS, print_result
from beam_etl.launcher import LoadResult
from beam_etl.secrets import remember_secret
from beam_etl.terminal import complain


def entry(**changes):
    whole = {"records_in": 1234567, "rows": 1234560, "rejects": 7, "rejected_files": 0, "files": 12, "bytes": 5_000_000}
    places = {"parquet": "/lake/t", "manifest": "/m", "rejects_directory": "/r"}
    return {
        **whole,
        "mode": "replace",
        "skipped": 0,
        "published": True,
        "balanced": True,
        "reasons": [],
        "schema": [],
        "seconds": 2.0,
        **places,
        **changes,
    }


def printed(tables, already_loaded=False, **settings):
    text = io.StringIO()
    report = {
        "load_id": "k-000",
        "published": all(t["published"] for t in tables.values()),
        "seconds": 2.0,
        "tables": tables,
    }
    config = EtlConfig(**{"input": ("x",), "output": "/lake/", **settings})
    print_result(LoadResult(report, already_loaded), config, Console(file=text, width=120))
    return text.getvalue()


def test_a_person_reads_counts_speed_and_places():
    text = printed({"t": entry()})
    assert "│ t     │    12 │  1,234,567 │ 1,234,560 │       7 │ yes       │" in text
    assert "5.0 MB in 2.0 s, 2.5 MB/s" in text
    assert "Parquet:    /lake/<table>/*.parquet\n" in text
    assert "Rejects:    /lake/_beam_etl/rejects/k-000/<table>/*.jsonl\n" in text
    assert "Report:     /lake/_beam_etl/loads/k-000/report.json\n" in text
    assert "already loaded" not in text.lower()


def test_a_load_that_was_there_already_claims_no_speed():
    text = printed({"t": entry()}, already_loaded=True)
    assert text.startswith("Already loaded: k-000 is what the tables hold; --force loads it again.\n")
    assert "MB/s" not in text


def test_what_append_skipped_is_counted_and_explained():
    text = printed({"t": entry(mode="append", skipped=1234)})
    assert "┃ table ┃ files ┃ skipped ┃" in text
    assert "│ t     │    12 │   1,234 │" in text
    assert "skipped" not in printed({"t": entry()})
    text = printed({"t": entry(mode="append", files=2, skipped=3)}, already_loaded=True)
    assert text.startswith("Already loaded: the tables hold all 5 files; append never adds a file twice.\n")


def test_reasons_are_shown_up_to_a_few_and_rejected_files_counted():
    reasons = [f"reason {number} with [brackets] and a long text " + "x" * 200 for number in range(MAX_REASONS + 2)]
    text = printed({"t": entry(published=False, reasons=reasons, rejected_files=2)})
    assert "7 + 2 files" in text
    for reason in reasons[:MAX_REASONS]:
        assert f"t is not published: {reason}\n" in text
    assert reasons[MAX_REASONS] not in text
    assert "... and 2 more reasons in the report" in text


def test_without_rejects_or_published_rows_nothing_is_promised():
    text = printed({"t": entry(published=False, rejects_directory="", rejects=0)}, report="r.json")
    assert "Rejects:" not in text
    assert "Look into:" not in text
    assert "Report:     r.json\n" in text


@pytest.mark.parametrize("name", ["[red]t[/]", "it's", 'a"b', "[/]"])
def test_names_are_shown_as_they_are(name):
    text = printed({name: entry(published=False, reasons=["why"])})
    assert f"{name} is not published: why\n" in text


def test_an_embedded_database_is_shown_with_its_schema_and_its_quoted_table():
    text = printed({'a"b': entry()}, postgres="embedded:/pg", postgres_schema="landing")
    assert """'TABLE "landing"."a""b" LIMIT 5'""" in text
    assert "psql" not in printed({"t": entry()}, postgres="env:PG")


def test_no_secret_is_printed():
    remember_secret("hunter2")
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        complain("the password hunter2 is wrong")
    assert told.getvalue() == "beam_etl: the password *** is wrong\n"
