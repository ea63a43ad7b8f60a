"""What the audit schema and the catalogue say of a published table: its loads, files, columns and lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from beam_etl.loads.table_state import LeaseLostError, TableState, file_key
from beam_etl.model import SourceFile
from beam_etl.postgres.session import Connection


class Publication(NamedTuple):
    """One load of a table: as what it was published, how many rows it brought, and from how many records by an upsert."""

    load_id: str
    target_table: str
    rows: int
    staged_rows: int | None = None


def latest_publication(connection: Connection, schema: str, table: str) -> Publication | None:
    row = connection.execute(
        "SELECT load_id, target_table, rows, staged_rows FROM beam_etl.table_loads WHERE table_name = %s AND target_schema = %s "
        "ORDER BY sequence DESC LIMIT 1",
        [table, schema],
    ).fetchone()
    return Publication(*row) if row else None


def published_schema(connection: Connection, load_id: str, table: str) -> str | None:
    """The hash of the schema with which the load has published the table, or None before it has."""
    row = connection.execute(
        "SELECT schema_hash FROM beam_etl.table_loads WHERE load_id = %s AND table_name = %s", [load_id, table]
    ).fetchone()
    return str(row[0]) if row else None


def read_loads(connection: Connection, schema: str, table: str) -> list[Publication]:
    """The loads that a table consists of: the last one that started it, and those added since, in this order."""
    found = connection.execute(
        "SELECT load_id, target_table, rows, staged_rows FROM beam_etl.table_loads "
        "WHERE table_name = %(table)s AND target_schema = %(schema)s AND sequence >= ("
        "SELECT max(sequence) FROM beam_etl.table_loads "
        "WHERE table_name = %(table)s AND target_schema = %(schema)s AND starts_table) ORDER BY sequence",
        {"table": table, "schema": schema},
    )
    return [Publication(*row) for row in found]


def read_loads_after(connection: Connection, schema: str, table: str, load_id: str) -> list[str]:
    """The loads that were published into a table after the given one."""
    found = connection.execute(
        "SELECT load_id FROM beam_etl.table_loads WHERE table_name = %(table)s AND target_schema = %(schema)s "
        "AND sequence > (SELECT sequence FROM beam_etl.table_loads WHERE table_name = %(table)s AND load_id = %(load)s)",
        {"table": table, "schema": schema, "load": load_id},
    )
    return [load for (load,) in found]


def read_state(connection: Connection, schema: str, table: str, target: str) -> TableState:
    """What a table holds; where its target is gone, it holds nothing, whatever the books say."""
    exists = connection.execute(
        "SELECT true FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = %s",
        [schema, target],
    ).fetchone()
    if exists is None:
        return TableState()
    files = connection.execute(
        "SELECT file_key, version FROM beam_etl.table_files WHERE target_schema = %s AND table_name = %s",
        [schema, table],
    )
    return TableState(
        loads=tuple(load.load_id for load in read_loads(connection, schema, table)),
        files=dict(files.fetchall()),
        exists=True,
        columns=column_types(connection, schema, target),
    )


def column_types(connection: Connection, schema: str, name: str) -> dict[str, str]:
    """The columns of a relation and their types, in order."""
    found = connection.execute(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid "
        "WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = %s AND attnum > 0 AND NOT attisdropped "
        "ORDER BY attnum",
        [schema, name],
    )
    return dict(found.fetchall())


def enter_files(connection: Connection, schema: str, table: str, load_id: str, sources: Sequence[SourceFile]) -> None:
    """Enters the files that a load has brought into a table; a file that is there already is a unique violation."""
    connection.execute(
        "INSERT INTO beam_etl.table_files (target_schema, table_name, file_key, uri, member, version, load_id) "
        "SELECT %s, %s, key, uri, member, version, %s "
        "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS f (key, uri, member, version)",
        [
            *(schema, table, load_id, [file_key(file) for file in sources]),
            *([file.uri for file in sources], [file.member for file in sources], [file.version for file in sources]),
        ],
    )


def forget_files(connection: Connection, schema: str, table: str) -> None:
    connection.execute("DELETE FROM beam_etl.table_files WHERE target_schema = %s AND table_name = %s", [schema, table])


def require_token(connection: Connection, schema: str, table: str, token: int) -> None:
    """Raises LeaseLostError where the table's lease is not held by that token any more. Token 0 is guarded by nobody.

    Within a transaction that has locked the table, the answer holds until its end.
    """
    held = connection.execute(
        "SELECT true FROM beam_etl.leases WHERE target_schema = %s AND table_name = %s AND token = %s LIMIT 1",
        [schema, table, token],
    ).fetchone()
    if token and held is None:
        raise LeaseLostError(
            f"table {table!r}: another load has taken the lease in PostgreSQL (this run had token {token}); "
            "run the same command again"
        )
