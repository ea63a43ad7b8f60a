"""A dry run tells what a load would do, and leaves everything as it was."""

import gzip
import json
import tempfile
import zipfile

import psycopg
import pytest

from beam_etl.exit_codes import DONE, PUBLISHED, USAGE
from tests.landed import last_report, run


@pytest.fixture
def dump(tmp_path):
    directory = tmp_path / "dump"
    directory.mkdir()
    lines = "".join(f"{n};{n / 4:.2f};2020-01-{n % 28 + 1:02d};Zoë\n" for n in range(20_000))
    (directory / "sales.csv").write_text(f"id;price;day;name\n{lines}", encoding="utf-8")
    with zipfile.ZipFile(directory / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("packed.csv", "a,b\n" + "1,x\n" * 1000)
    (directory / "gz.csv.gz").write_bytes(gzip.compress(b"a\tb\n" + b"1\tx\n" * 1000))
    (directory / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,x\n" * 100)[:-9])
    (directory / "wide.csv").write_text("a,b\n1,é\n", encoding="utf-16")
    return directory


def tree(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def tables_of(dsn):
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT oid, relname, relnamespace FROM pg_class ORDER BY oid").fetchall()


def plan(*arguments):
    done = run("plan", *arguments, "--json")
    assert (done.code, done.err) == (DONE, "")
    return json.loads(done.out)


def test_it_tells_what_the_load_then_does_and_writes_nothing(dump, tmp_path, database, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    arguments = (f"--input={dump}", f"--output={tmp_path / 'lake'}", f"--postgres={database}")
    before, relations = tree(tmp_path), tables_of(database)
    found = plan(*arguments)
    assert (tree(tmp_path), tables_of(database)) == ({**before, temporary: temporary.stat().st_mtime_ns}, relations)
    assert run(*arguments).code == 3, "cut.csv.gz cannot be read"
    report = last_report(tmp_path / "lake")["tables"]
    assert found["tables"].keys() == report.keys()
    for name in report.keys() - {"cut"}:
        assert found["tables"][name]["schema"] == report[name]["schema"]
    assert (found["load"], found["files"]) == ("a new load", 5)
    sales = found["tables"]["sales"]
    assert abs(sales["estimated_rows"] - report["sales"]["rows"]) < 1000
    assert found["tables"]["packed"]["estimated_rows"] == 1000
    assert sales["ddl"].startswith('CREATE TABLE "public"."sales" (\n    "id" bigint,\n    "price" numeric(18,2),')
    assert sales["dialects"][0]["delimiter"] == ";"
    assert sales["dialects"][0]["evidence"]
    [unreadable] = found["tables"]["cut"]["unreadable"]
    assert unreadable["file"].endswith("cut.csv.gz")
    assert "incomplete download" in unreadable["reason"]


def test_it_knows_what_was_loaded_before(dump, tmp_path):
    (dump / "cut.csv.gz").unlink()
    arguments = [f"--input={dump}", f"--output={tmp_path / 'lake'}"]
    assert run(*arguments).code == PUBLISHED
    assert plan(*arguments)["load"].endswith("is what the tables hold; it would not be loaded again without --force")
    assert plan(*arguments, "--force")["load"] == "a new load"
    (dump / "sales.2.csv").write_text("id;price;day;name\n1;1;2020-01-01;x\n")
    found = plan(*arguments, "--mode=append")
    assert (found["files"], len(found["tables"]["sales"]["skipped"])) == (1, 1)
    shown = run("plan", *arguments, "--mode=append")
    assert "1 files skipped: the table holds them already" in shown.out
    assert shown.out.endswith("\nNothing was written.\n")


def test_what_the_load_would_refuse_is_refused_here(dump, tmp_path):
    done = run("plan", f"--input={tmp_path / 'none'}", f"--output={tmp_path / 'lake'}")
    assert (done.code, done.out) == (USAGE, "")
    assert "there is no such file" in done.err
    done = run("plan", f"--input={dump}", f"--output={tmp_path / 'lake'}", "--mode=upside_down")
    assert done.code == USAGE
    assert not (tmp_path / "lake").exists()


def test_an_embedded_server_is_not_started(dump, tmp_path):
    found = plan(f"--input={dump}", f"--output={tmp_path / 'lake'}", f"--postgres=embedded:{tmp_path / 'pg'}")
    assert found["notes"][0].startswith("the embedded PostgreSQL is not started")
    assert not (tmp_path / "pg").exists()


def test_a_column_that_upsert_needs_and_no_file_has_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    arguments = (f"--input={tmp_path / 't.csv'}", f"--output={tmp_path / 'lake'}", "--mode=upsert", "--key=id,a")
    assert plan(*arguments)["tables"]["t"]["missing_columns"] == ["id"]
    assert "columns that upsert needs, in no file: id" in run("plan", *arguments).out
