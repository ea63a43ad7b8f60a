"""Preflight looks at every place that a load needs, tells the remedy, and leaves nothing behind."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from beam_etl import preflight as preflight_module
from beam_etl.exit_codes import DONE, PUBLISHED, USAGE
from tests.landed import run
from tests.privileges import forbidden_file, without_privileges
from tests.processes import free_port


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.csv"
    path.write_text("id,text\n1,a\n")
    return path


def checks(*arguments):
    """The exit code, and name -> (verdict, what was found)."""
    done = run("preflight", *arguments)
    assert done.err == ""
    rows = [line.split(maxsplit=2) for line in done.out.splitlines()]
    return done.code, {name: (verdict, found) for verdict, name, found in rows}


def test_a_load_that_could_begin_and_nothing_is_left_behind(good, tmp_path, database):
    lake = tmp_path / "deep" / "lake"
    code, found = checks(f"--input={good}", f"--output={lake}", f"--postgres={database}")
    assert (code, {verdict for verdict, _ in found.values()}) == (DONE, {"ok"})
    assert list(found) == ["input", "output", "disk", "memory", "postgres", "tables", "runner"]
    assert found["input"][1] == "1 files, 0.0 MB"
    assert found["postgres"][1].startswith("PostgreSQL ")
    assert "1 tables, 0 of them there already" in found["tables"][1]
    assert sorted(tmp_path.iterdir()) == [good]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regnamespace('beam_etl')").fetchone() == (None,)


def test_the_flag_of_a_load_is_the_same(good, tmp_path):
    arguments = (f"--input={good}", f"--output={tmp_path / 'lake'}")
    done = run(*arguments, "--preflight_only")
    assert done.code == DONE
    assert [line.split()[1] for line in done.out.splitlines()] == [
        "input",
        "output",
        "disk",
        "memory",
        "tables",
        "runner",
    ]
    assert not (tmp_path / "lake").exists()
    assert run(*arguments).code == PUBLISHED
    assert "1 tables, 1 of them there already" in checks(*arguments)[1]["tables"][1]
    code, found = checks(*arguments, "--mode=fail_if_exists")
    assert (code, found["tables"][0]) == (USAGE, "fail")
    assert "table 'good' exists in Parquet, and mode fail_if_exists was asked for; drop it" in found["tables"][1]


def test_every_place_is_told_whatever_is_wrong_with_the_others(good, tmp_path, monkeypatch):
    monkeypatch.setenv("PG_DSN", f"postgresql://loader:hunter2@127.0.0.1:{free_port()}/registry")
    code, found = checks(
        *(f"--input={tmp_path / 'none'}", f"--output={good}/lake", "--postgres=env:PG_DSN"),
        *("--runner=FlinkRunner", "--memory_budget_mb=64"),
    )
    assert code == USAGE
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        **dict.fromkeys(("input", "output", "postgres", "runner"), "fail"),
        **{name: found[name][0] for name in ("disk", "memory")},
    }
    assert "there is no such file" in found["input"][1]
    assert "cannot be written" in found["output"][1]
    assert "give a place in a directory" in found["output"][1]
    assert "Connection refused" in found["postgres"][1]
    assert "hunter2" not in str(found)
    assert "FlinkRunner needs Beam's job server" in found["runner"][1]


def test_a_role_without_privilege_is_told_what_to_grant(good, tmp_path, database, monkeypatch):
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS preflight_guest")
        admin.execute("CREATE ROLE preflight_guest LOGIN PASSWORD 'hunter2'")
        admin.execute(
            sql.SQL("REVOKE CREATE ON DATABASE {} FROM PUBLIC").format(
                sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
            )
        )
    monkeypatch.setenv("PG_DSN", make_conninfo(database, user="preflight_guest", password="hunter2"))
    code, found = checks(f"--input={good}", f"--output={tmp_path / 'lake'}", "--postgres=env:PG_DSN")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP ROLE preflight_guest")
    assert (code, found["postgres"][0]) == (USAGE, "fail")
    assert 'run GRANT CREATE, USAGE ON SCHEMA "public" TO "preflight_guest"' in found["postgres"][1]
    assert "hunter2" not in str(found)


def test_files_that_nobody_may_read_are_counted(tmp_path):
    with forbidden_file("t.csv", b"id\n1\n") as path, without_privileges():
        verdict, found = preflight_module._inputs(preflight_module.discover([path], [], None))
    assert verdict == "warn"
    assert f"1 cannot be read, first {path} (Permission denied); mend them, or see --on_bad_file" in found


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root may mount a small disk")
def test_a_disk_that_is_too_small_fails_and_is_left_as_it_was(tmp_path):
    (tmp_path / "big.csv").write_bytes(b"id,text\n" + b"1,abcdefghijklmnopqrstuvwxyz\n" * 800_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        code, found = checks(f"--input={tmp_path / 'big.csv'}", f"--output={disk / 'lake'}")
        assert list(Path(disk).iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert (code, found["disk"][0]) == (USAGE, "fail")
    assert found["disk"][1].endswith("needed; free space, or choose another --output")
