"""Where a database is: references to connection strings, resolved where used, never shown with a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from beam_etl.postgres import embedded_postgres

_EXAMPLE = "postgresql://user:password@host:5432/database or host=... port=... dbname=... user=... password=..."
_URI = re.compile(r"^postgres(?:ql)?://")
_PASSWORD_IN_URI = re.compile(r"(postgres(?:ql)?://[^:@/\s]*):[^@\s]*@")
_PASSWORD_AS_KEY = re.compile(r"\b((?:ssl)?password)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE)


def resolve_dsn(reference: str) -> str:
    """The connection string that a reference stands for.

    Args:
      reference: "env:NAME" (an environment variable), "file:PATH" (a file holding nothing else), "embedded:DIR"
        (starts the server there), or a plain DSN or URI. Resolve it anew at each connection: secrets rotate.

    Raises:
      ValueError: nothing there, or not a connection string; says what to do and never quotes the secret.
    """
    kind, _, place = reference.partition(":")
    if kind == "embedded":
        if not place:
            raise ValueError("embedded: names no directory; write for example embedded:/var/lib/beam_etl/postgres")
        return embedded_postgres.start(place)
    if kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise ValueError(
                f"the environment variable {place!r} of {reference!r} is unset or empty; set it to {_EXAMPLE}"
            )
        return _checked(value, reference)
    if kind == "file":
        return _checked(_read_secret(place, reference), reference)
    return _checked(reference, "the connection string")


def describe_dsn(dsn: str) -> str:
    """Host, port and database of a connection string, as "host:port/database", for messages and reports."""
    parts = conninfo_to_dict(dsn)
    user = parts.get("user") or os.environ.get("PGUSER", "")
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    return f"{host}:{port}/{parts.get('dbname') or os.environ.get('PGDATABASE') or user}"


def redact(text: str) -> str:
    """The text with every password in a URI or a key=value connection string replaced by ***."""
    return _PASSWORD_AS_KEY.sub(r"\1\2***", _PASSWORD_IN_URI.sub(r"\1:***@", text))


def _read_secret(path: str, reference: str) -> str:
    try:
        value = Path(path).expanduser().read_text().strip()
    except OSError as error:
        raise ValueError(
            f"cannot read the file of {reference!r} ({error.strerror}); create it, readable by this user, with "
            f"{_EXAMPLE}"
        ) from error
    if not value:
        raise ValueError(f"the file of {reference!r} is empty; write into it {_EXAMPLE}")
    return value


def _checked(dsn: str, where: str) -> str:
    """The DSN itself, if libpq will read it as its writer meant it.

    libpq's own complaints quote the text, and a password with an unescaped "@" or "/" slides into host, port or
    database, which messages do show. So such texts are refused here, without a word of them and without a cause.
    """
    remedy = (
        f"{where} is not a PostgreSQL connection string; write {_EXAMPLE}; in a URI, percent-encode special characters"
    )
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ValueError(remedy) from None
    port_is_number = re.fullmatch(r"[\d,]*", str(parts.get("port") or ""))
    stray_at = _URI.match(dsn) and ("@" in str(parts.get("dbname") or "") or "@" in str(parts.get("host") or ""))
    if not port_is_number or stray_at:
        raise ValueError(remedy)
    return dsn
