from pathlib import Path

import psycopg
import pytest

from beam_etl.postgres import embedded_postgres
from beam_etl.postgres.dsn import describe_dsn, resolve_dsn
from beam_etl.secrets import redact

URI = "postgresql://me:hunter2@db.example:6432/lake?sslmode=require"


def test_environment_and_file_and_plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKE", f" {URI}\n")
    (tmp_path / "dsn").write_text(f"{URI}\n")
    assert resolve_dsn("env:LAKE") == resolve_dsn(f"file:{tmp_path}/dsn") == resolve_dsn(URI) == URI
    assert resolve_dsn("host=db dbname=lake password='a b'") == "host=db dbname=lake password='a b'"


def test_embedded_starts_the_server(postgres_dir: Path) -> None:
    dsn = resolve_dsn(f"embedded:{postgres_dir}")
    assert dsn == embedded_postgres.start(postgres_dir)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("env:NOT_SET_ANYWHERE", "'NOT_SET_ANYWHERE' of 'env:NOT_SET_ANYWHERE' is unset or empty; set it to"),
        ("file:/nowhere/dsn", r"cannot read the file of 'file:/nowhere/dsn' \(No such file or directory\); create it"),
        ("embedded:", "names no directory; write for example"),
    ],
)
def test_nothing_there(reference: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        resolve_dsn(reference)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("\n")
    with pytest.raises(ValueError, match="is empty; write into it"):
        resolve_dsn(f"file:{tmp_path}/dsn")


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2",
        "mysql://me:hunter2@db/lake",
        "postgresql://me:hun@ter2@db/lake",
        "postgresql://me:hunter2/x@db/lake",
        "postgresql://me:1234/hunter2@db/lake",
        "postgresql://me:50%hunter2@db/lake",
        "password='hunter2",
    ],
)
def test_misread_strings_are_refused_without_being_quoted(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE", secret)
    for reference in ("env:LAKE", secret):
        with pytest.raises(ValueError, match="is not a PostgreSQL connection string; write") as told:
            resolve_dsn(reference)
        assert "hun" not in str(told.value) and "ter2" not in str(told.value)
        assert told.value.__suppress_context__ or told.value.__context__ is None


def test_percent_encoded_password_is_accepted() -> None:
    assert resolve_dsn("postgresql://me:h%40n%2Fter@db/lake")


def test_described_by_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(variable, raising=False)
    assert describe_dsn(URI) == "db.example:6432/lake"
    assert describe_dsn("user=me password=hunter2") == "localhost:5432/me"
    assert describe_dsn("host=a,b port=1,2 dbname=lake") == "a,b:1,2/lake"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"cannot open {URI}!", "cannot open postgresql://me:***@db.example:6432/lake?sslmode=require!"),
        ("postgres://:hunter2@db", "postgres://:***@db"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("password = 'hunter\\'2 x' sslpassword=y", "password = *** sslpassword=***"),
        ("postgresql://db/lake?user=me&password=hunter2&port=1", "postgresql://db/lake?user=me&password=***&port=1"),
        ("nothing secret: a password is needed", "nothing secret: a password is needed"),
    ],
)
def test_redaction(text: str, clean: str) -> None:
    assert redact(text) == clean
