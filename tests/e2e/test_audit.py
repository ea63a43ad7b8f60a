"""What the audit says of loads that ended well, were held back, were skipped or died; in the lake and in PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from beam_etl.config import EtlConfig
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.loads.holder import Holder
from beam_etl.loads.runs import Run, command_line
from beam_etl.postgres.store import PostgresStore
from tests.landed import run


class Lake:
    def __init__(self, directory: Path, dsn: str | None) -> None:
        self.directory, self.output, self.dsn = directory, directory / "lake", dsn
        (directory / "a.csv").write_text("id,text\n1,a\n2\n3,c\n")
        (directory / "b.csv").write_text("id,text\n4,d\n")

    def arguments(self, *names: str) -> list[str]:
        inputs = [f"--input={self.directory / name}" for name in names]
        return [*inputs, *self.places(), "--table=t", "--mode=append"]

    def places(self) -> list[str]:
        return [f"--output={self.output}", *([f"--postgres={self.dsn}"] if self.dsn else [])]

    def load(self, *names: str, ratio: str = "1") -> int:
        return run(*self.arguments(*names), f"--max_reject_ratio={ratio}").code

    def audit(self, *more: str) -> Any:
        done = run("audit", *more, *self.places(), "--json")
        assert (done.code, done.err) == (PUBLISHED, "")
        return json.loads(done.out)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture(params=["parquet", "both"])
def lake(request, tmp_path):
    return Lake(tmp_path, request.getfixturevalue("database") if request.param == "both" else None)


def test_a_published_load_is_told_with_its_run_files_and_chunks(lake):
    assert lake.load("a.csv", "b.csv") == PUBLISHED
    (load,) = lake.audit()
    (table,) = load["tables"]
    assert (load["state"], load["current"], table["state"]) == ("published", True, "published")
    assert (table["records_in"], table["rows"], table["rejects"], table["reasons"]) == (4, 3, 1, [])
    files = {Path(file["uri"]).name: (file["state"], file["records"], file["rejects"]) for file in table["files"]}
    assert files == {"a.csv": ("published", 3, 1), "b.csv": ("published", 1, 0)}
    assert sum(chunk["rows"] for chunk in table["chunks"]) == 3
    assert all(chunk["checksum"] and chunk["state"] == "published" for chunk in table["chunks"])
    (own,) = load["runs"]
    assert (own["outcome"], own["pid"]) == ("published", os.getpid())
    assert own["started"] <= own["ended"]
    assert "--max_reject_ratio=1" in own["command"]
    if lake.dsn:
        assert lake.sql("SELECT state, current, rows, rejects, runs FROM beam_etl.load_overview") == [
            ("published", True, 3, 1, 1)
        ]
        assert lake.sql("SELECT state, in_table FROM beam_etl.file_history") == [("published", True)] * 2
        assert {state for (state,) in lake.sql("SELECT state FROM beam_etl.chunk_overview")} == {"published"}


def test_a_load_that_policy_held_back_has_failed_and_says_why_until_it_is_published(lake):
    assert lake.load("a.csv", ratio="0") == NOT_PUBLISHED
    (load,) = lake.audit()
    assert (load["state"], load["current"]) == ("failed", False)
    assert "more than --max_reject_ratio=0 allows" in load["tables"][0]["reasons"][0]
    assert {chunk["state"] for chunk in load["tables"][0]["chunks"]} == {"committed"}
    if lake.dsn:
        assert lake.sql("SELECT state FROM beam_etl.load_overview") == [("failed",)]
    assert lake.load("a.csv") == PUBLISHED
    (load,) = lake.audit()
    assert [own["outcome"] for own in load["runs"]] == ["not_published", "published"]
    assert (load["state"], load["tables"][0]["reasons"]) == ("published", [])


def test_files_that_the_table_held_are_skipped_and_a_file_is_found_in_every_load(lake):
    assert lake.load("a.csv") == PUBLISHED
    assert lake.load("a.csv", "b.csv") == PUBLISHED
    first, second = lake.audit()
    assert [first["current"], second["current"]] == [True, True]
    assert sorted(file["state"] for file in second["tables"][0]["files"]) == ["published", "skipped"]
    found = lake.audit("--file=a.csv")
    assert [(one["load_id"], one["state"]) for one in found] == [
        (first["load_id"], "published"),
        (second["load_id"], "skipped"),
    ]
    assert len(lake.audit("--table=t")) == 2
    assert lake.audit("--table=other") == []
    if lake.dsn:
        assert sorted(lake.sql("SELECT state, in_table FROM beam_etl.file_history")) == [
            ("published", True),
            ("published", True),
            ("skipped", False),
        ]


def test_a_replaced_load_is_published_and_no_longer_current(lake):
    assert lake.load("a.csv") == PUBLISHED
    assert run(*lake.arguments("b.csv"), "--mode=replace").code == PUBLISHED
    assert [(load["state"], load["current"]) for load in lake.audit()] == [("published", False), ("published", True)]


@pytest.mark.parametrize(
    ("failpoint", "state"),
    [("load.planned", "pending"), ("publish.between_sinks", "committed"), ("load.before_report", "published")],
)
def test_after_a_kill_the_state_follows_from_what_is_there(tmp_path, database, failpoint, state):
    lake = Lake(tmp_path, database)
    command = [sys.executable, "-m", "beam_etl", *lake.arguments("b.csv")]
    died = subprocess.run(command, env={**os.environ, "BEAM_ETL_FAILPOINTS": f"{failpoint}=kill"}, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    (load,) = lake.audit()
    assert load["state"] == state
    if state == "committed":
        assert load["tables"][0]["sinks"] == {"parquet": False, "postgres": True}
        assert lake.sql("SELECT state FROM beam_etl.table_overview") == [("published",)]
        assert "was cut off" in load["tables"][0]["reasons"][0]
    assert lake.load("b.csv") == PUBLISHED
    assert lake.audit()[0]["state"] == "published"


def test_a_run_that_failed_says_why(tmp_path, database, monkeypatch):
    lake = Lake(tmp_path, database)
    monkeypatch.setattr(PostgresStore, "publish", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no luck")))
    assert lake.load("b.csv") == FAILED
    (load,) = lake.audit()
    assert (load["runs"][0]["outcome"], "no luck" in load["runs"][0]["reason"]) == ("failed", True)
    assert lake.sql("SELECT outcome FROM beam_etl.load_runs") == [("failed",)]


def test_tables_for_a_person(lake):
    assert lake.load("a.csv") == PUBLISHED
    load_id = lake.audit()[0]["load_id"]
    for more, expected in [([], load_id), ([load_id], ""), (["--file=a.csv"], "a.csv")]:
        done = run("audit", *more, *lake.places())
        assert done.code == PUBLISHED
        if more != [load_id]:
            assert expected in done.out
        else:
            assert "t: published, current (append; published: parquet yes" in done.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-load"], "knows no load 'no-such-load'"),
        (["--file=nothing.csv"], "no load here has planned or skipped 'nothing.csv'"),
    ],
)
def test_what_is_not_there_is_a_usage_error(tmp_path, arguments, complaint):
    done = run("audit", *arguments, f"--output={tmp_path}")
    assert (done.code, complaint in done.err) == (USAGE, True)


def test_no_secret_comes_into_the_audit():
    config = EtlConfig(input=["a b.csv"], output="lake", postgres="env:PG_DSN", force=True)
    line = command_line(config, ["--direct_num_workers=2", "--api_token=hunter2", "--proxy=http://me:hunter2@proxy"])
    assert line == (
        "python -m beam_etl '--input=a b.csv' --output=lake --postgres=env:PG_DSN --force "
        "--direct_num_workers=2 '--api_token=***' '--proxy=http://me:***@proxy'"
    )
    ended = Run.begin("load", Holder.this_process(""), config, []).end("failed", "postgresql://me:hunter2@db is away")
    assert "hunter2" not in ended.reason
