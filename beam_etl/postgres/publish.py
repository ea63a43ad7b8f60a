"""A staged table takes its target's place, or its rows join it, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import psycopg
import tenacity
from psycopg import errors, sql

from beam_etl.postgres.errors import PublishRefusedError
from beam_etl.postgres.names import AUDIT_SCHEMA
from beam_etl.postgres.session import Connection
from beam_etl.postgres.tables import column_types

# How long readers of the target may queue behind the swap at a time; then it steps back and lets them pass.
SWAP_LOCK_SECONDS = 2.0

_RELATION_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "p": "a partitioned table",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a composite type",
}


def count_rows(connection: Connection, schema: str, name: str) -> int:
    """Rows of a table; 0 where there is no such table, so that books, not an error, tell what is missing."""
    exists = connection.execute("SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))", [schema, name]).fetchone()
    if exists is None or exists[0] is None:
        return 0
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
    return int(row[0]) if row else 0


def swap_tables(connection: Connection, staging: str, schema: str, target: str, retry_seconds: float) -> None:
    """Drops "schema"."target", where it exists, and puts the staging table in its place.

    The exclusive lock on the target is asked for briefly and repeatedly, so nobody who reads it waits long.

    Raises:
      PublishRefusedError: the target is not an ordinary table, or something depends on it.
      psycopg.errors.LockNotAvailable: the target stayed locked for retry_seconds.
    """
    refuse_unless_ordinary(connection, schema, target)
    retry_locked(connection, retry_seconds, _swap_once, connection, staging, schema, target)


def retry_locked(connection: Connection, retry_seconds: float, step: Callable[..., None], *arguments: object) -> None:
    """Runs a step that takes an exclusive lock, stepping back and trying again while others hold the table."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(errors.LockNotAvailable),
        wait=tenacity.wait_random(0.05, 0.5),
        stop=tenacity.stop_after_delay(retry_seconds),
        reraise=True,
    )
    connection.execute(f"SET LOCAL lock_timeout = {int(SWAP_LOCK_SECONDS * 1000)}")
    retrying(step, *arguments)


def _swap_once(connection: Connection, staging: str, schema: str, target: str) -> None:
    place = sql.Identifier(schema, target)
    try:
        with (
            connection.transaction()
        ):  # a savepoint: stepping back gives up the lock on the target, not the work before
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(place))
            moved = sql.Identifier(AUDIT_SCHEMA, staging)
            # Autovacuum kept out of the way of loading; readers want it back.
            connection.execute(sql.SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(moved))
            connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(moved, sql.Identifier(schema)))
            renamed = sql.Identifier(schema, staging)
            connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(renamed, sql.Identifier(target)))
    except errors.DependentObjectsStillExist as error:
        raise PublishRefusedError(_explain_dependents(schema, target, error)) from error


def append_rows(
    connection: Connection, staging: str, schema: str, target: str, rows: int, retry_seconds: float
) -> None:
    """Adds the rows of the staging table to "schema"."target", matched by the names of columns, and drops it.

    Columns that the target lacks are added; while their rows are inserted, readers of the target wait.

    Raises:
      PublishRefusedError: the target is not an ordinary table, has a column of another type, a constraint does not allow
        a row, or a trigger or rule kept rows back.
      psycopg.errors.LockNotAvailable: the target stayed locked for retry_seconds.
    """
    refuse_unless_ordinary(connection, schema, target)
    staged = match_columns(connection, staging, schema, target, retry_seconds)
    names = sql.SQL(", ").join(sql.Identifier(name) for name in staged)
    source, place = sql.Identifier(AUDIT_SCHEMA, staging), sql.Identifier(schema, target)
    try:
        inserted = connection.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(place, names, names, source)
        ).rowcount
    except errors.IntegrityError as error:
        raise refuse_rows(schema, target, error) from error
    if inserted != rows:
        raise PublishRefusedError(
            f'"{schema}"."{target}" took {inserted} of {rows} rows; disable the trigger or rule that keeps rows back'
        )
    connection.execute(sql.SQL("DROP TABLE {}").format(source))
    connection.execute(sql.SQL("ANALYZE {}").format(place))


def match_columns(
    connection: Connection, staging: str, schema: str, target: str, retry_seconds: float, without: Sequence[str] = ()
) -> list[str]:
    """The columns of a staging table, all of which the target then has, with the same types; new ones are added.

    Raises:
      PublishRefusedError: the target has one of another type.
    """
    staged, held = column_types(connection, AUDIT_SCHEMA, staging), column_types(connection, schema, target)
    staged = {name: kind for name, kind in staged.items() if name not in without}
    for name, kind in staged.items():
        if held.get(name, kind) != kind:
            raise PublishRefusedError(
                f'"{schema}"."{target}": column {name!r} is {held[name]}, the load has {kind}; change the column back, '
                "or replace the table"
            )
    added = {name: kind for name, kind in staged.items() if name not in held}
    if added:
        retry_locked(connection, retry_seconds, _add_columns, connection, schema, target, added)
    return list(staged)


def refuse_rows(schema: str, target: str, error: psycopg.Error) -> PublishRefusedError:
    """Names the constraint that does not allow the rows."""
    return PublishRefusedError(
        f'"{schema}"."{target}" does not take the rows: {error.diag.message_primary} '
        f"({error.diag.message_detail or 'constraint ' + str(error.diag.constraint_name)}); mend the files, or drop "
        "the constraint"
    )


def _add_columns(connection: Connection, schema: str, target: str, columns: Mapping[str, str]) -> None:
    clauses = sql.SQL(", ").join(
        sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()
    )
    with connection.transaction():
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(schema, target), clauses))


def refuse_unless_ordinary(connection: Connection, schema: str, target: str) -> None:
    row = connection.execute(
        "SELECT relkind::text, relispartition FROM pg_class "
        "WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = %s",
        [schema, target],
    ).fetchone()
    if row is None or (row[0] == "r" and not row[1]):
        return
    kind = "a partition of another table" if row[1] else _RELATION_KINDS.get(row[0], "another kind of relation")
    raise PublishRefusedError(
        f'"{schema}"."{target}" is {kind}, not an ordinary table, and is left as it is; '
        "rename it, or choose another target schema or table name"
    )


def _explain_dependents(schema: str, target: str, error: psycopg.Error) -> str:
    dependents = "; ".join((error.diag.message_detail or str(error)).splitlines())
    return (
        f'"{schema}"."{target}" cannot be replaced, because other objects depend on it: {dependents}. '
        "Drop them and make them again afterwards, or let them select from another table"
    )
