"""mode upsert: one row a key, the last record wins, in Parquet alone and with PostgreSQL, whatever dies meanwhile."""

import itertools
import json
import os
import random
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from beam_etl.exit_codes import NOT_PUBLISHED, PUBLISHED, USAGE
from tests.landed import last_report, parquet_rows, postgres_rows, reject_lines, run
from tests.processes import REPOSITORY, Program


class Lake:
    """A lake, with PostgreSQL or without, and a table t in it whose rows have a key."""

    def __init__(self, directory: Path, dsn: str | None) -> None:
        self.directory, self.lake, self.dsn = directory, directory / "lake", dsn
        self.job = directory / "job.yaml"
        self.job.write_text("tables: [{name: t, key: [id], delete_when: {op: D}}]\n")

    def write(self, name: str, *records: str, header: str = "id,text,op") -> str:
        (self.directory / name).write_text("\n".join([header, *records]) + "\n")
        return name

    def arguments(self, *names: str, more: tuple[str, ...] = ()) -> list[str]:
        inputs = [f"--input={self.directory / name}" for name in names]
        postgres = [f"--postgres={self.dsn}"] if self.dsn else []
        common = ["--table=t", f"--output={self.lake}", "--mode=upsert", f"--config={self.job}"]
        return [*inputs, *postgres, *common, *more]

    def load(self, *names: str, more: tuple[str, ...] = (), code: int = PUBLISHED) -> str:
        done = run(*self.arguments(*names, more=more))
        assert done.code == code, done.out + done.err
        return done.out + done.err

    def rows(self) -> list[tuple]:
        rows = parquet_rows(self.lake, "t")
        manifest = json.loads(max(self.lake.glob("_beam_etl/manifests/t/*.json")).read_text())
        assert {file["name"] for file in manifest["files"]} == {p.name for p in self.lake.glob("t/*.parquet")}
        assert sum(file["rows"] for file in manifest["files"]) == len(rows)
        if self.dsn is not None:
            assert postgres_rows(self.dsn, "t") == rows
        return rows

    def entry(self) -> dict:
        entry = last_report(self.lake)["tables"]["t"]
        assert entry["records_in"] == entry["rows"] + entry["rejects"] + entry["superseded"] + entry["deleted"]
        return entry


@pytest.fixture(params=["parquet", "both"])
def lake(request, tmp_path):
    return Lake(tmp_path, request.getfixturevalue("database") if request.param == "both" else None)


@pytest.fixture
def both(tmp_path, database):
    return Lake(tmp_path, database)


def test_the_last_record_of_a_key_wins_within_a_load_and_over_the_table(lake):
    lake.write("a.csv", "1,a,", "2,b,", "1,c,", "3,d,D")
    lake.write("b.csv", "2,e,", "4,f,")
    lake.load("a.csv", "b.csv")
    assert lake.rows() == [(1, "c", None), (2, "e", None), (4, "f", None)]
    entry = lake.entry()
    assert [entry[k] for k in ("rows", "superseded", "deleted", "inserted", "updated", "removed")] == [3, 2, 1, 3, 0, 0]
    lake.write("c.csv", "2,,D", "4,g,", "9,,D", "5,h,", "1,i,D", "1,j,")
    out = lake.load("*.csv")
    assert lake.rows() == [(1, "j", None), (4, "g", None), (5, "h", None)]
    entry = lake.entry()
    assert [entry[k] for k in ("rows", "superseded", "deleted", "inserted", "updated", "removed")] == [3, 1, 2, 1, 2, 1]
    assert "1 inserted, 2 updated, 1 removed, 1 superseded" in out
    assert "Already loaded" in lake.load("*.csv")
    assert lake.rows() == [(1, "j", None), (4, "g", None), (5, "h", None)]
    assert not any(lake.lake.glob("_beam_etl/staging/**/*.parquet"))


def test_files_without_touched_keys_stay_as_they_are_and_new_columns_are_added(lake):
    lake.write("a.csv", "1,a,")
    lake.write("b.csv", "2,b,")
    lake.load("a.csv")
    lake.load("b.csv")
    first = {path.name: path.stat().st_mtime_ns for path in lake.lake.glob("t/*.parquet")}
    lake.write("c.csv", "2,c,7", header="id,text,extra")
    lake.load("c.csv", code=PUBLISHED)
    kept = {path.name: path.stat().st_mtime_ns for path in lake.lake.glob("t/*.parquet")}
    assert len(first.items() & kept.items()) == 1
    if lake.dsn:
        assert postgres_rows(lake.dsn, "t") == [(1, "a", None, None), (2, "c", None, 7)]


def test_null_keys_are_rejected_and_everything_may_be_deleted(lake):
    lake.write("a.csv", "1,a,", ",b,", "2,c,")
    lake.load("a.csv", more=("--max_reject_ratio=0.5",))
    [reject] = reject_lines(lake.lake, "t")
    assert (reject["code"], reject["column"], reject["raw"]) == ("null_key", "id", ",b,")
    assert lake.entry()["rejects"] == 1
    lake.write("b.csv", "1,,D", "2,,D")
    lake.load("b.csv")
    assert lake.rows() == []
    lake.write("c.csv", "2,new,")
    lake.load("c.csv")
    assert lake.rows() == [(2, "new", None)]


def test_what_cannot_be_upserted_is_refused_with_the_reason(lake):
    lake.write("a.csv", "1,a,", "1,b,")
    lake.load("a.csv", more=("--mode=replace",))
    lake.write("b.csv", "1,c,")
    out = lake.load("b.csv", code=NOT_PUBLISHED)
    assert ("several rows with the same key" in out) or ("is duplicated" in out), out
    assert [row[1] for row in lake.rows()] == ["a", "b"]
    lake.write("n.csv", "1,c,", header="number,text,op")
    assert "no file has the column 'id', which upsert needs" in lake.load("n.csv", code=NOT_PUBLISHED)
    lake.job.write_text("tables: [{name: t}]\n")
    assert "upsert needs to know what names a row; give --key=COLUMN" in lake.load("b.csv", code=USAGE)


def test_a_key_of_several_columns_given_by_flag(lake):
    lake.job.write_text("{}\n")
    lake.write("a.csv", "1,x,1.50", "1,y,2.25", "1,x,3.00", header="id,kind,price")
    lake.load("a.csv", more=("--key=kind,id",))
    lake.write("b.csv", "1,y,9.75", "2,x,1.00", header="id,kind,price")
    lake.load("b.csv", more=("--key=kind,id",))
    assert [(i, k, str(p)) for i, k, p in lake.rows()] == [(1, "x", "3.00"), (1, "y", "9.75"), (2, "x", "1.00")]


def test_rescued_values_and_lineage_follow_the_record_that_wins(lake):
    lake.job.write_text("tables: [{name: t, key: [id], columns: {id: bigint, day: date}}]\n")
    policies = ("--on_conflict=rescue", "--lineage=_byte_start", "--max_reject_ratio=0.5")
    lake.write("a.csv", "1,2020-01-01", "x,2020-01-02", "2,never", "1,now", header="id,day")
    lake.load("a.csv", more=policies)
    assert lake.rows() == [(1, None, '{"day": "now"}', 41), (2, None, '{"day": "never"}', 33)]
    assert [(r["code"], r["raw"]) for r in reject_lines(lake.lake, "t")] == [("null_key", "x,2020-01-02")]
    assert [lake.entry()[k] for k in ("rows", "rejects", "superseded", "rescued")] == [2, 1, 1, 2]
    lake.write("b.csv", "2,2020-02-02", header="id,day")
    lake.load("b.csv", more=policies)
    assert [row[0::2] for row in lake.rows()] == [(1, '{"day": "now"}'), (2, None)]


def test_postgres_updates_in_place_and_names_the_constraint_that_refuses(both):
    both.write("a.csv", "1,a,", "2,b,")
    both.load("a.csv")
    with psycopg.connect(both.dsn) as connection:
        connection.execute("CREATE VIEW seen AS SELECT id, text FROM t")
        connection.execute("ALTER TABLE t ADD COLUMN note text, ADD CONSTRAINT no_z CHECK (text <> 'z')")
        connection.execute("UPDATE t SET note = 'mine'")
    both.write("b.csv", "1,z,", "3,c,")
    out = both.load("b.csv", code=NOT_PUBLISHED)
    assert 'violates check constraint "no_z"' in out
    assert parquet_rows(both.lake, "t") == [(1, "a", None), (2, "b", None)]
    both.write("b.csv", "1,y,", "3,c,")
    both.load("b.csv")
    with psycopg.connect(both.dsn) as connection:
        assert connection.execute("TABLE seen ORDER BY 1").fetchall() == [(1, "y"), (2, "b"), (3, "c")]
        assert connection.execute("SELECT note FROM t ORDER BY id").fetchall() == [("mine",), ("mine",), (None,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO t (id) VALUES (1)")


POINTS = [
    "storage.after_create=kill@5",
    "publish.before_postgres=kill",
    "publish.swapped=kill",
    "publish.between_sinks=kill",
    "publish.before_moves=kill",
    "storage.mid_move=kill",
    "publish.before_manifest=kill",
    "publish.after_manifest=kill",
    "publish.after_success=kill",
    "load.before_report=kill",
]


def start(lake: Lake, failpoints: str, *names: str) -> Program:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BEAM_ETL_FAILPOINTS": failpoints}
    log = lake.directory / f"{'-'.join(names)}.log"
    return Program([sys.executable, "-m", "beam_etl", *lake.arguments(*names)], environment, log)


@pytest.mark.slow
def test_two_crashes_and_a_concurrent_load_in_upsert_end_exact(both):
    expected: dict[int, tuple] = {}

    def write(name: str, seed: int) -> str:
        rng = random.Random(seed)
        records = []
        for _ in range(40):
            key, delete = rng.randrange(30), rng.random() < 0.2
            records.append(f"{key},{name}{len(records)},{'D' if delete else ''}")
            expected.pop(key, None) if delete else expected.update({key: (key, f"{name}{len(records) - 1}", None)})
        return both.write(name, *records)

    both.load(write("start.csv", 1))
    for number, (first, second) in enumerate(itertools.pairwise(POINTS)):
        name = write(f"f{number}.csv", number + 2)
        for failpoints in (first, second):
            program = start(both, failpoints, name)
            assert program.wait(120) in (-signal.SIGKILL, PUBLISHED), program.log.read_text()
        again, same = start(both, "", name), start(both, "", name)
        codes = [again.wait(120), same.wait(120)]
        assert codes == [PUBLISHED] * 2, again.log.read_text()
        assert both.rows() == sorted(expected.values(), key=str), (first, second)
    assert "Already loaded" in both.load(name)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_an_upsert_killed_at_a_failpoint_is_ended_by_the_same_command(both, point):
    both.write("a.csv", "1,a,", "2,b,", "3,c,")
    both.load("a.csv")
    both.write("b.csv", "1,x,", "2,,D", "4,d,", "1,y,")
    assert start(both, point, "b.csv").wait(120) in (-signal.SIGKILL, PUBLISHED)
    both.load("b.csv")
    assert both.rows() == [(1, "y", None), (3, "c", None), (4, "d", None)]
