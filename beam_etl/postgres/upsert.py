"""The records of a staging table become rows with a key, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors, sql

from beam_etl.loads.keyed import UpsertCounts
from beam_etl.postgres.errors import PublishRefusedError
from beam_etl.postgres.names import AUDIT_SCHEMA, DELETED_COLUMN, ORDER_COLUMNS, postgres_name
from beam_etl.postgres.publish import match_columns, refuse_rows, refuse_unless_ordinary, retry_locked, swap_tables
from beam_etl.postgres.session import Connection
from beam_etl.postgres.tables import column_types

Names = Sequence[str]


def start_keyed(
    connection: Connection, staging: str, schema: str, target: str, key: Names, retry_seconds: float
) -> UpsertCounts:
    """Makes the winners of a staging table a new table "schema"."target", whose primary key is the key."""
    winners, staged = _pick_winners(connection, staging, key)
    found = _count(connection, winners)
    place = sql.Identifier(AUDIT_SCHEMA, winners)
    deleted = connection.execute(
        sql.SQL("DELETE FROM {} WHERE {}").format(place, sql.Identifier(DELETED_COLUMN))
    ).rowcount
    connection.execute(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(place, sql.Identifier(DELETED_COLUMN)))
    swap_tables(connection, winners, schema, target, retry_seconds)
    # Nobody can wait for a table that nobody has seen yet.
    connection.execute(
        sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(sql.Identifier(schema, target), _list(key))
    )
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, target)))
    return UpsertCounts(found - deleted, staged - found, deleted, found - deleted, 0, 0)


def upsert_rows(
    connection: Connection, staging: str, schema: str, target: str, key: Names, retry_seconds: float
) -> UpsertCounts:
    """Brings the winners of a staging table into "schema"."target", row by row in the order of their keys.

    Rows are updated in place, so what points to them, and columns that are not from the files, stay.

    Raises:
      PublishRefusedError: the target is not an ordinary table, has a column of another type, holds a key twice, a
        constraint does not allow a row, or a trigger or rule kept rows back.
      psycopg.errors.LockNotAvailable: the target stayed locked for retry_seconds.
    """
    refuse_unless_ordinary(connection, schema, target)
    winners, staged = _pick_winners(connection, staging, key)
    names = match_columns(connection, winners, schema, target, retry_seconds, without=(DELETED_COLUMN,))
    _require_unique_index(connection, schema, target, key, retry_seconds)
    place, source = sql.Identifier(schema, target), sql.Identifier(AUDIT_SCHEMA, winners)
    same = sql.SQL(" AND ").join(sql.SQL("t.{0} = w.{0}").format(sql.Identifier(name)) for name in key)
    deletes = sql.SQL("w.{}").format(sql.Identifier(DELETED_COLUMN))
    row = connection.execute(
        sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE {deletes}), "
            "count(*) FILTER (WHERE NOT {deletes} AND EXISTS (SELECT FROM {place} t WHERE {same})) FROM {source} w"
        ).format(deletes=deletes, place=place, same=same, source=source)
    ).fetchone()
    found, deleted, updated = row or (0, 0, 0)
    others = [name for name in names if name not in key] or list(key)
    changes = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
    try:
        removed = connection.execute(
            sql.SQL("DELETE FROM {} t USING {} w WHERE {} AND {}").format(place, source, deletes, same)
        ).rowcount
        written = connection.execute(
            sql.SQL(
                "INSERT INTO {place} ({names}) SELECT {names} FROM {source} w WHERE NOT {deletes} ORDER BY {key} "
                "ON CONFLICT ({key}) DO UPDATE SET {changes}"
            ).format(place=place, names=_list(names), source=source, deletes=deletes, key=_list(key), changes=changes)
        ).rowcount
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # here they can still be told from other failures
    except errors.IntegrityError as error:
        raise refuse_rows(schema, target, error) from error
    if written != found - deleted:
        raise PublishRefusedError(
            f'"{schema}"."{target}" took {written} of {found - deleted} rows; disable the trigger or rule that keeps rows '
            "back"
        )
    connection.execute(sql.SQL("DROP TABLE {}").format(source))
    connection.execute(sql.SQL("ANALYZE {}").format(place))
    return UpsertCounts(written, staged - found, deleted, written - updated, updated, removed)


def _pick_winners(connection: Connection, staging: str, key: Names) -> tuple[str, int]:
    """Replaces the staging table by one of the last record of each key; its name, and how many records there were."""
    staged = _count(connection, staging)
    kinds = column_types(connection, AUDIT_SCHEMA, staging)
    winners = postgres_name(f"{staging}_w")
    last = sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier(name)) for name in ORDER_COLUMNS)
    connection.execute(
        sql.SQL("CREATE TABLE {} AS SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}, {}").format(
            sql.Identifier(AUDIT_SCHEMA, winners),
            _list(key),
            _list([name for name in kinds if name not in ORDER_COLUMNS]),
            sql.Identifier(AUDIT_SCHEMA, staging),
            _list(key),
            last,
        )
    )
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(AUDIT_SCHEMA, staging)))
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(AUDIT_SCHEMA, winners)))
    return winners, staged


def _require_unique_index(connection: Connection, schema: str, target: str, key: Names, retry_seconds: float) -> None:
    """ON CONFLICT needs one on exactly the key; where there is none, it is made. Writers wait for that, readers do not."""
    row = connection.execute(
        "SELECT true FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = %s AND i.indisunique AND i.indisvalid "
        "AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND (SELECT array_agg(attname::text ORDER BY "
        "attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey[:i.indnkeyatts-1])) "
        "= %s::text[] LIMIT 1",
        [schema, target, sorted(key)],
    ).fetchone()
    if row is not None:
        return

    def create() -> None:
        with connection.transaction():
            connection.execute(
                sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(sql.Identifier(schema, target), _list(key))
            )

    try:
        retry_locked(connection, retry_seconds, create)
    except errors.UniqueViolation as error:
        raise PublishRefusedError(
            f'"{schema}"."{target}" cannot take an upsert by ({", ".join(key)}): {error.diag.message_detail} Replace the '
            "table, or choose another key"
        ) from error


def _count(connection: Connection, name: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(AUDIT_SCHEMA, name))).fetchone()
    return int(row[0]) if row else 0


def _list(names: Names) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
