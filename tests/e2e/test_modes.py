"""What a load does to a table that is there, by its mode, in Parquet alone and with PostgreSQL."""

import gzip
import json
from pathlib import Path

import duckdb
import psycopg
import pytest

from beam_etl.exit_codes import NOT_PUBLISHED, PUBLISHED, USAGE
from tests.landed import Run, last_report, parquet_rows, postgres_rows, reject_lines, run


class Lake:
    """A lake, with PostgreSQL or without, and one table in it."""

    def __init__(self, directory: Path, dsn: str | None) -> None:
        self.directory, self.lake, self.dsn = directory, directory / "lake", dsn

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def load(self, *names: str, mode: str = "append", more: tuple[str, ...] = ()) -> Run:
        inputs = [f"--input={self.directory / name}" for name in names]
        postgres = [f"--postgres={self.dsn}"] if self.dsn else []
        return run(*inputs, *postgres, "--table=t", f"--output={self.lake}", f"--mode={mode}", *more)

    def rows(self) -> list[tuple]:
        """The table, which must be the same to every reader."""
        names = [f"{self.lake}/t/{file['name']}" for file in self.manifest()["files"]]
        with duckdb.connect() as own:  # the module's own connection is everybody's
            rows = own.sql(self.by_directory() + " ORDER BY ALL").fetchall()
            by_manifest = own.sql(f"SELECT * FROM read_parquet({names}, union_by_name=true) ORDER BY ALL").fetchall()
        assert by_manifest == rows
        if self.dsn is not None:
            assert sorted(postgres_rows(self.dsn, "t"), key=str) == sorted(rows, key=str)
        return rows

    def by_directory(self) -> str:
        return f"SELECT * FROM read_parquet('{self.lake}/t/*.parquet', union_by_name=true)"

    def manifest(self) -> dict:
        return json.loads(max(self.lake.glob("_beam_etl/manifests/t/*.json")).read_text())

    def entry(self) -> dict:
        return last_report(self.lake)["tables"]["t"]

    def trees(self) -> dict[str, int]:
        """Everything of the table and its staging, in both sinks."""
        paths = [*self.lake.glob("t/*"), *self.lake.glob("_beam_etl/manifests/**/*"), *self.staged()]
        return {str(path): path.stat().st_mtime_ns for path in paths if path.is_file()}

    def staged(self) -> list[Path]:
        return [path for path in self.lake.glob("_beam_etl/staging/**/*") if path.is_file()]


@pytest.fixture(params=["parquet", "both"])
def lake(request, tmp_path):
    made = Lake(tmp_path, request.getfixturevalue("database") if request.param == "both" else None)
    made.write("a.csv", "id,text\n1,a\n2,b\n")
    made.write("b.csv", "id,text\n3,c\n")
    return made


@pytest.fixture
def both(tmp_path, database):
    made = Lake(tmp_path, database)
    made.write("a.csv", "id,text\n1,a\n2,b\n")
    made.write("b.csv", "id,text\n3,c\n")
    return made


def test_append_adds_each_file_once(lake):
    assert lake.load("a.csv").code == PUBLISHED
    first = {path: path.stat().st_mtime_ns for path in lake.lake.glob("t/*.parquet")}
    done = lake.load("*.csv")
    assert (done.code, done.err) == (PUBLISHED, "")
    assert lake.rows() == [(1, "a"), (2, "b"), (3, "c")]
    assert {path: path.stat().st_mtime_ns for path in first} == first
    entry = lake.entry()
    assert (entry["mode"], entry["files"], entry["skipped"], entry["rows"]) == ("append", 1, 1, 1)
    assert "skipped" in done.out
    assert [Path(source["uri"]).name for source in lake.manifest()["sources"]] == ["a.csv", "b.csv"]
    assert len(set(lake.manifest()["loads"])) == 2
    assert lake.staged() == []
    before = lake.trees()
    for names in (["*.csv"], ["a.csv"], ["b.csv", "a.csv"], ["../" + lake.directory.name + "/b.csv"]):
        again = lake.load(*names)
        assert (again.code, again.err) == (PUBLISHED, ""), names
        assert "Already loaded: the tables hold all" in again.out, names
        assert lake.trees() == before
    assert "Already loaded: " in lake.load("*.csv", more=("--force",)).out
    assert lake.rows() == [(1, "a"), (2, "b"), (3, "c")]


def test_replace_after_append_and_append_after_replace(lake):
    for names, mode, expected in (
        (["a.csv"], "replace", [1, 2]),
        (["b.csv"], "append", [1, 2, 3]),
        (["a.csv"], "replace", [1, 2]),  # not already loaded: the table held more
        (["b.csv"], "append", [1, 2, 3]),  # the file is not in the table any more, so it is no repetition
        (["b.csv"], "replace", [3]),
        (["a.csv", "b.csv"], "append", [1, 2, 3]),
    ):
        done = lake.load(*names, mode=mode)
        assert (done.code, "Already" in done.out) == (PUBLISHED, False), done.out + done.err
        assert [row[0] for row in lake.rows()] == expected
    assert "Already" in lake.load("a.csv", "b.csv").out


def test_a_changed_file_is_refused_and_nothing_happens(lake):
    lake.load("a.csv")
    before = lake.trees()
    lake.write("a.csv", "id,text\n1,a\n2,b\n9,z\n")
    done = lake.load("*.csv")
    assert done.code == USAGE
    assert "a.csv changed since the table took it in; give what is new a name of its own, or load all" in done.err
    assert lake.trees() == before
    assert lake.load("*.csv", mode="replace").code == PUBLISHED
    assert [row[0] for row in lake.rows()] == [1, 2, 3, 9]


def test_the_types_of_the_table_hold_for_what_is_added(lake):
    lake.load("a.csv")
    lake.write("b.csv", "text,id\nx,7\ny,1.5\nz,8\n")
    done = lake.load("b.csv")
    assert done.code == NOT_PUBLISHED
    assert "1 of 3 records were rejected" in done.out
    [reject] = reject_lines(lake.lake, "t")
    assert (reject["raw"], reject["code"], reject["reason"]) == ("y,1.5", "bad_value", "the value is not a bigint")
    assert [row[0] for row in lake.rows()] == [1, 2]
    assert lake.load("b.csv", more=("--max_reject_ratio=0.5",)).code == PUBLISHED
    assert lake.rows() == [(1, "a"), (2, "b"), (7, "x"), (8, "z")]


def test_columns_that_the_table_lacks_are_added_or_refused(lake):
    lake.load("a.csv")
    lake.write("b.csv", "extra,id\n2.5,3\n")
    done = lake.load("b.csv", more=("--on_new_column=fail",))
    assert done.code == NOT_PUBLISHED
    assert "the files have columns that the table lacks: extra (extra in " in done.out
    assert lake.staged() == [], "nothing was converted"
    assert lake.rows() == [(1, "a"), (2, "b")]
    assert lake.load("b.csv").code == PUBLISHED
    assert [str(row[2]) for row in lake.rows()] == ["None", "None", "2.5"]
    assert [(row[0], row[1]) for row in lake.rows()] == [(1, "a"), (2, "b"), (3, None)]
    lake.write("c.csv", "id,text\n4,d\n")
    assert lake.load("c.csv", more=("--on_new_column=fail",)).code == PUBLISHED, "fewer columns are no new ones"
    assert [row[0] for row in lake.rows()] == [1, 2, 3, 4]


def test_a_declared_type_other_than_the_table_has_is_refused(lake):
    lake.load("a.csv")
    job = lake.write("job.yaml", "tables: [{name: t, columns: {id: string}}]\n")
    done = lake.load("b.csv", more=(f"--config={job}",))
    assert done.code == USAGE
    assert "column 'id' of 't' is declared as string, but the table holds bigint" in done.err


def test_fail_if_exists_makes_a_table_once(lake):
    assert lake.load("a.csv", mode="fail_if_exists").code == PUBLISHED
    before = lake.trees()
    again = lake.load("a.csv", mode="fail_if_exists")
    assert (again.code, "Already loaded: " in again.out) == (PUBLISHED, True)
    done = lake.load("b.csv", mode="fail_if_exists")
    assert done.code == USAGE
    assert "table 't' exists in Parquet" in done.err
    assert ("and PostgreSQL" in done.err) == (lake.dsn is not None)
    assert lake.trees() == before
    assert lake.rows() == [(1, "a"), (2, "b")]


def test_each_table_has_its_mode(lake):
    job = lake.write(
        "job.yaml",
        "mode: append\ntables:\n- {name: r, files: ['r*.csv'], mode: replace}\n- {name: t, files: ['t*.csv']}\n",
    )
    lake.write("r1.csv", "id\n1\n")
    lake.write("t1.csv", "id\n1\n")
    more = (f"--config={job}", "--mode=append")

    def load(*names):
        return lake.load(*names, more=more)

    assert load("r1.csv", "t1.csv").code == PUBLISHED
    assert "Already loaded: " in load("r1.csv", "t1.csv").out
    lake.write("r2.csv", "id\n2\n")
    lake.write("t2.csv", "id\n2\n")
    assert load("r2.csv", "t1.csv", "t2.csv").code == PUBLISHED
    assert parquet_rows(lake.lake, "r") == [(2,)]
    assert parquet_rows(lake.lake, "t") == [(1,), (2,)]
    assert load("r1.csv", "t1.csv").code == PUBLISHED, "nothing new in one table, something in the other"
    report = last_report(lake.lake)["tables"]
    assert (report["r"]["files"], report["t"]["files"], report["t"]["skipped"]) == (1, 0, 1)
    assert (parquet_rows(lake.lake, "r"), parquet_rows(lake.lake, "t")) == ([(1,)], [(1,), (2,)])


def test_a_file_that_could_not_be_read_is_taken_once_it_is_mended(lake):
    packed = gzip.compress(b"id,text\n5,e\n")
    (lake.directory / "z.csv.gz").write_bytes(packed[:-9])
    done = lake.load("a.csv", "z.csv.gz", more=("--on_bad_file=publish_without",))
    assert done.code == PUBLISHED, done.out + done.err
    assert lake.rows() == [(1, "a"), (2, "b")]
    assert "Already" in lake.load("a.csv", "z.csv.gz", more=("--on_bad_file=publish_without",)).out
    (lake.directory / "z.csv.gz").write_bytes(packed)
    assert lake.load("a.csv", "z.csv.gz").code == PUBLISHED
    assert lake.rows() == [(1, "a"), (2, "b"), (5, "e")]


# --- PostgreSQL's own ways


def test_what_users_made_of_the_postgres_table_stays(both):
    both.load("a.csv")
    with psycopg.connect(both.dsn) as connection:
        connection.execute("CREATE VIEW seen AS SELECT id FROM t")
        connection.execute("ALTER TABLE t ADD PRIMARY KEY (id), ADD COLUMN note text DEFAULT 'new'")
    assert both.load("b.csv").code == PUBLISHED
    with psycopg.connect(both.dsn) as connection:
        assert connection.execute("SELECT * FROM seen ORDER BY 1").fetchall() == [(1,), (2,), (3,)]
        assert connection.execute("SELECT note FROM t WHERE id = 3").fetchall() == [("new",)]


def test_a_constraint_that_does_not_hold_keeps_the_load_out_of_both_sinks(both):
    both.load("a.csv")
    with psycopg.connect(both.dsn) as connection:
        connection.execute("ALTER TABLE t ADD CONSTRAINT each_once UNIQUE (id)")
    both.write("b.csv", "id,text\n2,again\n")
    done = both.load("b.csv")
    assert done.code == NOT_PUBLISHED
    assert 'violates unique constraint "each_once" (Key (id)=(2) already exists.)' in done.out
    assert both.rows() == [(1, "a"), (2, "b")]
    with psycopg.connect(both.dsn) as connection:
        connection.execute("ALTER TABLE t DROP CONSTRAINT each_once")
    assert both.load("b.csv").code == PUBLISHED
    assert [row[0] for row in both.rows()] == [1, 2, 2]


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("DROP TABLE t", "Parquet and PostgreSQL hold different loads"),
        ("ALTER TABLE t DROP COLUMN text", "column 'text' was loaded as text, but in PostgreSQL it is now gone"),
        (
            "ALTER TABLE t ALTER id TYPE numeric",
            "column 'id' was loaded as bigint, but in PostgreSQL it is now numeric",
        ),
        ("DELETE FROM beam_etl.table_loads", "what stands in PostgreSQL was not made by beam_etl"),
    ],
)
def test_sinks_that_differ_are_not_added_to(both, statement, complaint):
    both.load("a.csv")
    with psycopg.connect(both.dsn) as connection:
        connection.execute(statement)
    done = both.load("b.csv")
    assert (done.code, complaint in done.err) == (USAGE, True), done.err
    assert parquet_rows(both.lake, "t") == [(1, "a"), (2, "b")]
    assert both.load("a.csv", "b.csv", mode="replace").code == PUBLISHED
    assert [row[0] for row in both.rows()] == [1, 2, 3]


def test_a_table_that_nobody_loaded_is_not_added_to(both):
    with psycopg.connect(both.dsn) as connection:
        connection.execute("CREATE TABLE t (id bigint)")
    for mode, complaint in (("append", "was not made by beam_etl"), ("fail_if_exists", "exists in PostgreSQL")):
        done = both.load("a.csv", mode=mode)
        assert (done.code, complaint in done.err) == (USAGE, True), done.err
    assert not (both.lake / "t").exists()
