"""What verify says of a load that is as it was published, and of one with which somebody has tampered."""

import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.loads.plan import read_plan
from tests.landed import Run, run

COLUMNS = "id,text,price,ratio,day,seen,zoned,flag"
ROWS = (
    '1,"a ""b"", c",1.50,0.1,2024-02-29,2024-01-01 00:00:00.5,2024-01-01T12:00:00+02:00,true',
    '2,"",-0.25,-0.5,0001-01-01,1969-12-31 23:59:59,2024-01-01T12:00:01+02:00,false',
    "3,,,,,,,",
    '4,"two\nlines",12345678901.25,123456.789,9999-12-31,9999-12-31 23:59:59,2024-06-01T00:00:00+02:00,true',
)


class Lake:
    def __init__(self, sources: Path, output: Path, dsn: str) -> None:
        self.sources, self.output, self.dsn = sources, output, dsn

    def verify(self, *more: str) -> Run:
        return run("verify", f"--output={self.output}", f"--postgres={self.dsn}", *more)

    def findings(self, *more: str) -> tuple[int, list[tuple[str, str, bool]]]:
        done = self.verify("--json", *more)
        (table,) = json.loads(done.out)
        assert table["right"] == (done.code == PUBLISHED)
        return done.code, [(one["place"], one["subject"], one["fault"]) for one in table["findings"]]

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            assert connection.execute(statement).rowcount != 0

    def parquet(self) -> list[Path]:
        return sorted((self.output / "t").glob("*.parquet"))


@pytest.fixture(scope="module")
def published(tmp_path_factory, module_database) -> Lake:
    """A table of two loads, with a reject, an added column, and a source in an archive."""
    directory = tmp_path_factory.mktemp("published")
    first, second = directory / "first.csv", directory / "second.zip"
    first.write_text("\n".join([COLUMNS, *ROWS, "5,ragged"]) + "\n")
    with zipfile.ZipFile(second, "w") as archive:
        archive.writestr("second.csv", f"{COLUMNS},more\n{ROWS[0].replace('1', '6', 1)},new\n")
    lake = Lake(directory, directory / "lake", module_database)
    types = "columns: {price: 'decimal(20,2)', ratio: double}"
    (directory / "job.yaml").write_text(
        f"dialect: {{header: true}}\ntables:\n  - name: t\n    on_new_column: add\n    {types}\n"
    )
    for source in (first, second):
        places = [f"--output={lake.output}", f"--postgres={lake.dsn}", f"--config={directory / 'job.yaml'}"]
        done = run(f"--input={source}", *places, "--table=t", "--mode=append", "--max_reject_ratio=1")
        assert done.code == PUBLISHED, done.err
    return lake


@pytest.fixture
def lake(published, tmp_path) -> Iterator[Lake]:
    """A copy to tamper with."""
    shutil.copytree(published.output, tmp_path / "lake")
    name, original = f"test_{uuid.uuid4().hex[:12]}", psycopg.conninfo.conninfo_to_dict(published.dsn)["dbname"]
    with psycopg.connect(published.dsn, dbname="postgres", autocommit=True) as admin:
        names = sql.Identifier(name), sql.Identifier(str(original))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    yield Lake(published.sources, tmp_path / "lake", make_conninfo(published.dsn, dbname=name))
    with psycopg.connect(published.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_what_is_as_it_was_published_is_right(published):
    done = published.verify("--json")
    assert (done.code, done.err) == (PUBLISHED, "")
    (table,) = json.loads(done.out)
    counts = {name: table[name] for name in ("rows", "postgres_rows", "rejects", "sources", "sources_counted", "files")}
    assert counts == {"rows": 5, "postgres_rows": 5, "rejects": 1, "sources": 2, "sources_counted": 2, "files": 2}
    assert (table["compared"], table["findings"]) == (True, [])
    assert "right" in published.verify().out


SWAP = "UPDATE t SET price = other.price FROM (VALUES (1, -0.25), (2, 1.50)) AS other (id, price) WHERE t.id = other.id"


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE t SET price = 1.51 WHERE id = 1", "price"),
        ("UPDATE t SET text = '' WHERE id = 3", "text"),
        ("UPDATE t SET ratio = '0.10000000000000002' WHERE id = 1", "ratio"),
        ("UPDATE t SET zoned = zoned + interval '1 microsecond' WHERE id = 1", "zoned"),
        (SWAP, "price"),
        ("DELETE FROM t WHERE id = 2", "t"),
        ("INSERT INTO t SELECT * FROM t WHERE id = 2", "t"),
        ("UPDATE t SET day = 'infinity' WHERE id = 1", "t"),
        ("ALTER TABLE t DROP COLUMN flag", "flag"),
        ("DROP TABLE t", "t"),
    ],
)
def test_what_was_changed_in_postgresql_is_found_and_named(lake, statement, subject):
    lake.sql(statement)
    assert lake.findings() == (NOT_PUBLISHED, [("postgres", subject, True)])


def test_what_is_of_no_load_in_postgresql_is_a_note(lake):
    lake.sql("ALTER TABLE t ADD COLUMN mine text")
    assert lake.findings() == (PUBLISHED, [("postgres", "mine", False)])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("tamper", [_flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"x")])
def test_a_parquet_file_that_is_not_what_was_written_is_found(lake, tamper: Callable[[Path], Any]):
    damaged = lake.parquet()[0]
    tamper(damaged)
    code, findings = lake.findings()
    assert (code, ("parquet", damaged.name, True) in findings) == (NOT_PUBLISHED, True)
    assert {name for place, name, fault in findings if fault} == {damaged.name}
    assert f"differs t, parquet, {damaged.name}" in lake.verify().out


def test_a_table_whose_parquet_files_are_all_gone_is_no_right_table(lake):
    for path in lake.parquet():
        path.unlink()
    code, findings = lake.findings()
    assert (code, sum(fault for *_, fault in findings)) == (NOT_PUBLISHED, 2)


def test_a_parquet_file_that_nobody_named_is_found(lake):
    shutil.copy(lake.parquet()[0], lake.output / "t" / "stray.parquet")
    assert lake.findings() == (NOT_PUBLISHED, [("parquet", "stray.parquet", True)])


def test_lost_rejects_are_found(lake):
    (rejects,) = lake.output.glob("_beam_etl/rejects/*/t/*.jsonl")
    rejects.unlink()
    assert lake.findings() == (NOT_PUBLISHED, [("rejects", rejects.parent.parent.name, True)])


def test_sources_are_counted_again_while_they_are_the_loaded_version(lake):
    source = lake.sources / "first.csv"
    text, stat = source.read_text(), source.stat()

    def write(changed: str) -> None:
        source.write_text(changed)
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    try:
        write(text.replace("5,ragged", "5\n7,8,9x"))  # as long, as old, and yet of one record more
        assert lake.findings() == (NOT_PUBLISHED, [("sources", str(source), True)])
        source.write_text(text + "9\n")
        assert lake.findings() == (PUBLISHED, [("sources", str(source), False)])
        source.unlink()
        assert lake.findings() == (PUBLISHED, [("sources", str(source), False)])
    finally:
        write(text)
    assert lake.findings() == (PUBLISHED, [])


def test_one_load_or_table_is_chosen(published):
    loads = sorted(path.name for path in (published.output / "_beam_etl/loads").iterdir())
    load = next(load for load in loads if "second" in read_plan(str(published.output), load).files[0].uri)
    (table,) = json.loads(published.verify(load, "--json").out)
    assert (table["sources"], table["rejects"], table["rows"]) == (1, 0, 5)
    assert published.verify("--table=t").code == PUBLISHED
    for arguments, complaint in [(["none"], "knows no load 'none'"), (["--table=u"], "no published table 'u'")]:
        done = published.verify(*arguments)
        assert (done.code, complaint in done.err) == (USAGE, True)


def test_where_nothing_is_published_nothing_is_right(tmp_path):
    done = run("verify", f"--output={tmp_path}")
    assert (done.code, "holds no published table" in done.err) == (USAGE, True)


def test_without_postgresql_the_lake_alone_is_looked_at(lake):
    _flip(lake.parquet()[0])
    assert run("verify", f"--output={lake.output}").code == NOT_PUBLISHED


def test_a_manifest_that_cannot_be_read_is_no_verdict(lake):
    for manifest in lake.output.glob("_beam_etl/manifests/t/*.json"):
        manifest.write_text("{")
    assert lake.verify().code == FAILED
