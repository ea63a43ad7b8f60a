"""A password is planted where a load finds it, and then looked for in everything that the load leaves behind."""

import re

from psycopg.conninfo import make_conninfo

from beam_etl.exit_codes import FAILED, PUBLISHED, USAGE
from tests.landed import run

PLANTED = "p1anted-S3cret"


def test_a_password_is_in_no_file_and_on_no_screen(tmp_path, database, monkeypatch, capfd):
    monkeypatch.setenv("PG_DSN", make_conninfo(database, password=PLANTED))
    (tmp_path / "t.csv").write_text("id,text\n1,a\n2\n3,c\n")
    lake = tmp_path / "lake"
    arguments = [f"--input={tmp_path / 't.csv'}", f"--output={lake}", "--postgres=env:PG_DSN", "--keep_staging"]
    shown = [run("config", "show", *arguments)]
    done = run(*arguments, "--max_reject_ratio=1", f"--report={tmp_path / 'report.json'}", "--verbose")
    assert done.code == PUBLISHED, done.err
    shown.append(done)
    monkeypatch.setenv("PG_DSN", make_conninfo(database, password=PLANTED, user="nobody_here"))
    refused = run(*arguments, "--force", "--verbose")
    assert (refused.code, re.search("nobody_here", refused.err) is not None) == (USAGE, True)
    shown.append(refused)
    monkeypatch.setenv("PG_DSN", make_conninfo(database, password=PLANTED))
    (lake / "_beam_etl" / "staging").rename(lake / "_beam_etl" / "away")
    (lake / "_beam_etl" / "staging").write_text("in the way")
    failed = run(*arguments, "--force", "--verbose")
    assert failed.code == FAILED
    shown.append(failed)
    captured = capfd.readouterr()
    for text in (*(s.out for s in shown), *(s.err for s in shown), captured.out, captured.err):
        assert PLANTED not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"plan.json", "report.json"} <= {path.name for path in files}
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []
