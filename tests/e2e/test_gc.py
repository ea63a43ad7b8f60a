"""What stays of a load when it is over, and what gc takes away and leaves."""

from pathlib import Path

import pytest

from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.loads.holder import Holder
from beam_etl.loads.leases import LakeLeases
from beam_etl.postgres.store import PostgresStore
from tests.landed import last_report, parquet_rows, postgres_rows, reject_lines, run, staging_tables


class Load:
    """One load whose second record is rejected, so that policy decides whether it is published."""

    def __init__(self, directory: Path, dsn: str) -> None:
        (directory / "t.csv").write_text("id,text\n1,a\n2\n3,c\n")
        self.lake, self.dsn = directory / "lake", dsn
        self.arguments = [f"--input={directory / 't.csv'}", f"--output={self.lake}", f"--postgres={dsn}"]

    def run(self, *more: str) -> int:
        return run(*self.arguments, *more).code

    def gc(self, *more: str, postgres: bool = True) -> str:
        done = run("gc", f"--output={self.lake}", *([f"--postgres={self.dsn}"] if postgres else []), *more)
        assert (done.code, done.err) == (PUBLISHED, "")
        return done.out

    def staged(self) -> tuple[bool, bool]:
        """Whether anything is staged in the lake, and in PostgreSQL."""
        return any(self.lake.glob("_beam_etl/staging/*")), bool(staging_tables(self.dsn))


@pytest.fixture
def load(tmp_path, database):
    return Load(tmp_path, database)


def test_a_published_load_leaves_its_books_and_rejects_and_no_staging(load):
    assert load.run("--max_reject_ratio=1") == PUBLISHED
    assert load.staged() == (False, False)
    assert load.gc() == "nothing is staged\n"
    entry = last_report(load.lake)["tables"]["t"]
    assert (entry["rows"], entry["rejects"], entry["balanced"]) == (2, 1, True)
    assert [reject["raw"] for reject in reject_lines(load.lake, "t")] == ["2"]
    assert Path(entry["manifest"]).is_file()


def test_staging_that_was_kept_is_collected_by_gc(load):
    assert load.run("--max_reject_ratio=1", "--keep_staging") == PUBLISHED
    assert load.staged() == (True, False)
    assert load.gc(postgres=False).endswith(": kept: it has a part in PostgreSQL; give --postgres\n")
    assert load.gc().endswith("-000: collected: all its tables are published\n")
    assert load.staged() == (False, False)
    assert parquet_rows(load.lake, "t") == postgres_rows(load.dsn, "t") == [(1, "a"), (3, "c")]


def test_a_load_that_was_held_back_is_kept_until_it_counts_as_given_up(load):
    assert load.run() == NOT_PUBLISHED
    assert load.staged() == (True, True)
    assert "kept: it is not over, and was planned no 7 days ago" in load.gc()
    assert load.staged() == (True, True)
    assert "collected: it was given up" in load.gc("--keep_days=0")
    assert load.staged() == (False, False)
    assert load.run("--max_reject_ratio=1") == PUBLISHED, "it starts again"
    assert parquet_rows(load.lake, "t") == postgres_rows(load.dsn, "t") == [(1, "a"), (3, "c")]
    assert len(list(load.lake.glob("_beam_etl/loads/*"))) == 1


def test_a_load_that_runs_is_left_alone(load):
    assert load.run() == NOT_PUBLISHED
    leases = LakeLeases(str(load.lake), Holder("a", "a", "elsewhere", "", 1))
    token = leases.claim("t", 60.0)
    assert "kept: table 't' is being loaded by process 1 on elsewhere" in load.gc("--keep_days=0")
    assert load.staged() == (True, True)
    leases.release("t", token)
    assert "collected" in load.gc("--keep_days=0")


def test_a_load_that_parquet_still_has_to_follow_is_left_alone(load, monkeypatch):
    original = PostgresStore.publish

    def dying(*arguments, **named):
        original(*arguments, **named)
        raise RuntimeError("killed")

    monkeypatch.setattr(PostgresStore, "publish", dying)
    assert load.run("--max_reject_ratio=1") == FAILED
    monkeypatch.undo()
    assert "kept: Parquet lacks its table 't'; run its command again" in load.gc("--keep_days=0")
    assert load.run("--max_reject_ratio=1") == PUBLISHED
    assert parquet_rows(load.lake, "t") == postgres_rows(load.dsn, "t") == [(1, "a"), (3, "c")]
    assert load.staged() == (False, False)


def test_staging_without_a_plan_is_collected(load):
    assert load.run() == NOT_PUBLISHED
    for path in load.lake.glob("_beam_etl/loads/*/plan.json"):
        path.unlink()
    assert "collected: it has no plan any more" in load.gc()
    assert load.staged() == (False, False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: --output"),
        (["--output=lake", "--keep_days=x"], "invalid float value"),
        (["--output=lake", "--postgres=env:NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["--output=s3://lake"], "use a local path"),
    ],
)
def test_what_gc_cannot_do_is_a_usage_error(arguments, complaint):
    done = run("gc", *arguments)
    assert (done.code, complaint in done.err) == (USAGE, True), done.err
