"""Names in PostgreSQL: at most 63 bytes, deterministic, and never two columns under one name."""

from __future__ import annotations

import hashlib

NAME_BYTES = 63
AUDIT_SCHEMA = "beam_etl"

# PostgreSQL documentation, section 5.6: no user column may bear these names. Maps have xmin and xmax.
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})

# Columns of staging tables whose rows have a key: in which order records came, and whether one deletes its row.
ORDER_COLUMNS = ("beam_etl_chunk", "beam_etl_row")
DELETED_COLUMN = "beam_etl_deleted"


def postgres_name(name: str) -> str:
    """The name as PostgreSQL can hold it: itself, or a beginning and a hash if empty, too long or with a NUL."""
    if name and "\0" not in name and len(name.encode()) <= NAME_BYTES:
        return name
    return _with_hash(name)


def postgres_column(name: str) -> str:
    """As postgres_name, for a column: the names of system columns get a hash too."""
    return _with_hash(name) if name in _RESERVED else postgres_name(name)


_RESERVED = _SYSTEM_COLUMNS | {*ORDER_COLUMNS, DELETED_COLUMN}


def quoted_name(name: str) -> str:
    """The name as SQL text for a person to type; statements of this program quote by psycopg.sql."""
    return '"' + name.replace('"', '""') + '"'


def staging_name(load_id: str, table: str, schema_hash: str) -> str:
    """The name of the table that a load fills for one schema of a table: a function of all three, at most 63 bytes."""
    return _shorten(f"staging_{table}", hashlib.sha256(repr((load_id, table, schema_hash)).encode()).hexdigest()[:16])


def _with_hash(name: str) -> str:
    return _shorten(name, hashlib.sha256(name.encode()).hexdigest()[:8])


def _shorten(name: str, suffix: str) -> str:
    kept = name.replace("\0", "").encode()[: NAME_BYTES - 1 - len(suffix)].decode(errors="ignore")
    return f"{kept}_{suffix}"
