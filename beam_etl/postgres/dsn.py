"""Where a database is: references to connection strings, resolved where used, never shown with a secret."""

from __future__ import annotations

import os
import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from beam_etl.postgres import embedded_postgres
from beam_etl.secrets import is_reference, remember_secret, resolve_secret

_EXAMPLE = "postgresql://user:password@host:5432/database or host=... port=... dbname=... user=... password=..."
_URI = re.compile(r"^postgres(?:ql)?://")


def resolve_dsn(reference: str) -> str:
    """The connection string that a reference stands for.

    Args:
      reference: to a secret (secrets.resolve_secret), "embedded:DIR" (starts the server there), or a plain DSN or URI.
        Resolve it anew at each connection: secrets rotate.

    Raises:
      ValueError: nothing there, or not a connection string; says what to do and never quotes the secret.
    """
    kind, _, place = reference.partition(":")
    if kind == "embedded":
        if not place:
            raise ValueError("embedded: names no directory; write for example embedded:/var/lib/beam_etl/postgres")
        return embedded_postgres.start(place)
    if is_reference(reference):
        return _checked(resolve_secret(reference, _EXAMPLE), reference)
    return _checked(reference, "the connection string")


def describe_dsn(dsn: str) -> str:
    """Host, port and database of a connection string, as "host:port/database", for messages and reports."""
    parts = conninfo_to_dict(dsn)
    user = parts.get("user") or os.environ.get("PGUSER", "")
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    return f"{host}:{port}/{parts.get('dbname') or os.environ.get('PGDATABASE') or user}"


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
    remember_secret(str(parts.get("password") or ""))
    return dsn
