"""The oracle notices every kind of broken promise, one record included, and nothing else."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from beam_etl.chaos.dump import Dump
from beam_etl.chaos.oracle import check_final, check_visible, fingerprint
from beam_etl.exit_codes import NOT_PUBLISHED
from tests.landed import run


class Loaded(NamedTuple):
    dump: Dump
    lake: Path
    dsn: str


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, module_database) -> Loaded:
    directory = tmp_path_factory.mktemp("loaded")
    dump = Dump(directory / "dump", records=9000, files=3, widens=True, spoiled=True)
    lake = directory / "lake"
    done = run(f"--input={dump.input}", f"--config={dump.job}", f"--output={lake}", f"--postgres={module_database}")
    assert done.code == NOT_PUBLISHED, done.err  # the spoiled table is not
    return Loaded(dump, lake, module_database)


@pytest.fixture
def copied(loaded: Loaded, postgres_dsn: str, tmp_path: Path) -> Iterator[Loaded]:
    """A copy of what was loaded, for a test to spoil."""
    lake = tmp_path / "lake"
    shutil.copytree(loaded.lake, lake)
    source, name = sql.Identifier(conninfo_to_dict(loaded.dsn)["dbname"]), sql.Identifier("spoiled_copy")
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, source))
    yield Loaded(loaded.dump, lake, make_conninfo(postgres_dsn, dbname="spoiled_copy"))
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def execute(statement: str) -> Callable[[Loaded], None]:
    def spoil(copied: Loaded) -> None:
        with psycopg.connect(copied.dsn) as connection:
            connection.execute(statement)

    return spoil


def files(copied: Loaded) -> list[Path]:
    return sorted((copied.lake / "events").glob("*.parquet"))


def lose_a_row_of_a_file(copied: Loaded) -> None:
    table = pq.read_table(files(copied)[0])
    pq.write_table(table.slice(1), files(copied)[0])


def cut_a_file(copied: Loaded) -> None:
    files(copied)[0].write_bytes(files(copied)[0].read_bytes()[:-100])


def add_a_file(copied: Loaded) -> None:
    pq.write_table(pq.read_table(files(copied)[0]).slice(0, 5), copied.lake / "events" / "stray.parquet")


def remove_success(copied: Loaded) -> None:
    (copied.lake / "events" / "_SUCCESS").unlink()


def rejects_file(copied: Loaded) -> Path:
    return next((copied.lake / "_beam_etl" / "rejects").glob("*/events/*.jsonl"))


def lose_a_reject(copied: Loaded) -> None:
    path = rejects_file(copied)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def repeat_a_reject(copied: Loaded) -> None:
    path = rejects_file(copied)
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])


def invent_a_reject(copied: Loaded) -> None:
    path = rejects_file(copied)
    path.write_text(path.read_text() + json.dumps({"raw": "1,good"}) + "\n")


def publish_the_spoiled(copied: Loaded) -> None:
    (copied.lake / "spoiled").mkdir()


def test_what_was_loaded_is_exact(loaded):
    findings = check_final(loaded.lake, loaded.dsn, loaded.dump)
    findings.add(check_visible(loaded.lake, loaded.dsn, loaded.dump.versions))
    assert not findings, findings


FIRST = "(SELECT min(id) FROM events)"


@pytest.mark.parametrize(
    ("spoil", "duplicates", "lost", "unbalanced"),
    [
        (execute(f"DELETE FROM events WHERE id = {FIRST}"), 0, 1, ""),
        (execute(f"INSERT INTO events SELECT * FROM events WHERE id = {FIRST}"), 1, 0, ""),
        (execute(f"UPDATE events SET id = -1 WHERE id = {FIRST}"), 0, 1, "such as id -1"),
        (execute(f"UPDATE events SET amount = 7 WHERE id = {FIRST}"), 0, 0, "amounts and characters"),
        (execute(f"UPDATE events SET text = 'other' WHERE id = {FIRST}"), 0, 0, "amounts and characters"),
        (execute("CREATE TABLE spoiled (id bigint)"), 0, 0, "the spoiled table was published"),
        (publish_the_spoiled, 0, 0, "the spoiled table was published"),
        (lose_a_row_of_a_file, 0, 1, ""),
        (add_a_file, 5, 0, "files and manifest differ in ['stray.parquet']"),
        (remove_success, 0, 0, "no _SUCCESS"),
        (lose_a_reject, 0, 1, "rejects: 0 repeated, 1 missing, 0 that were not planted"),
        (repeat_a_reject, 1, 0, "rejects: 1 repeated, 0 missing, 0 that were not planted"),
        (invent_a_reject, 0, 0, "rejects: 0 repeated, 0 missing, 1 that were not planted"),
    ],
)
def test_one_broken_promise_is_one_finding(spoil, duplicates, lost, unbalanced, copied):
    spoil(copied)
    findings = check_final(copied.lake, copied.dsn, copied.dump)
    assert (findings.duplicates, findings.lost) == (duplicates, lost)
    assert len(findings.unbalanced) == bool(unbalanced)
    assert unbalanced in "".join(findings.unbalanced)


def test_a_table_that_is_not_published_is_lost_whole(copied):
    execute("DROP TABLE events")(copied)
    findings = check_final(copied.lake, copied.dsn, copied.dump)
    assert findings.lost == len(copied.dump.expected.ids)
    assert check_visible(copied.lake, copied.dsn, copied.dump.versions).unbalanced == [], "nothing to see is allowed"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (execute(f"DELETE FROM events WHERE id = {FIRST}"), "postgres shows"),
        (execute(f"UPDATE events SET amount = 7 WHERE id = {FIRST}"), "postgres shows"),
        (lose_a_row_of_a_file, "parquet shows"),
        (cut_a_file, "is not readable"),
        (lambda copied: files(copied)[0].unlink(), "which is not there"),
    ],
)
def test_half_a_table_may_not_be_seen_at_any_time(spoil, sentence, copied):
    spoil(copied)
    assert any(sentence in found for found in check_visible(copied.lake, copied.dsn, copied.dump.versions).unbalanced)


@pytest.mark.parametrize(
    "touch",
    [
        lambda copied: files(copied)[0].touch(),
        lambda copied: rejects_file(copied).write_text(rejects_file(copied).read_text()),
        execute(f"UPDATE events SET amount = amount WHERE id = {FIRST}"),
        execute("CREATE TABLE again AS TABLE events; DROP TABLE events; ALTER TABLE again RENAME TO events"),
    ],
)
def test_what_is_written_again_has_another_fingerprint(touch, copied):
    before = fingerprint(copied.lake, copied.dsn)
    assert fingerprint(copied.lake, copied.dsn) == before
    touch(copied)
    assert fingerprint(copied.lake, copied.dsn) != before
