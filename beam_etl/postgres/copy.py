"""An Arrow table into a PostgreSQL table: one binary COPY, or as many as isolate the rows it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

from beam_etl import failpoints
from beam_etl.loads.keyed import deleted_rows
from beam_etl.postgres.errors import ErrorClass, PostgresError, RowError, classify
from beam_etl.postgres.names import DELETED_COLUMN, ORDER_COLUMNS, postgres_column
from beam_etl.postgres.session import Connection

# Encoded at once: small enough to stay in the processor's cache and out of the memory budget.
BATCH_BYTES = 1 << 20
BATCH_ROWS = 8192

# "COPY staging_t_0123, line 7, column n", in the server's language; staging tables have no comma in what follows COPY
# unless the table's name has one, and a wrong number only costs statements.
_CONTEXT = re.compile(r"^COPY [^,]+, \D*(\d+)", re.MULTILINE)


def with_order(table: pa.Table, chunk_id: str) -> pa.Table:
    """The table with what decides which record of a key wins."""
    deleted = deleted_rows(table)
    ordered = table.append_column(ORDER_COLUMNS[0], pa.repeat(chunk_id, table.num_rows))
    ordered = ordered.append_column(ORDER_COLUMNS[1], pa.array(range(table.num_rows), pa.int64()))
    return ordered.append_column(DELETED_COLUMN, deleted)


def copy_table(connection: Connection, target: sql.Identifier, table: pa.Table) -> list[RowError]:
    """Appends the table to `target` in the caller's transaction and returns the rows that PostgreSQL refused.

    A refused COPY is rolled back to its savepoint. Its error says in which row it was found ("COPY t, line 7"), so the
    rows before, that row alone and those behind are sent again: three statements for each bad row, and every other row
    twice. Where the row named is not the culprit, as rows are written some time after they were read, or where none is
    named, halves are sent until single rows are left. All other rows land.

    Raises:
      PostgresError: PostgreSQL counted other rows than were sent.
      psycopg.Error: whatever is not the fault of a row.
    """
    refused: list[RowError] = []
    # Rows to send, the next one last: their first, their number, and whether the row that an error names is believed.
    pending = [(0, table.num_rows, True)]
    while pending:
        start, rows, believe = pending.pop()
        if not rows:
            continue
        try:
            with connection.transaction():
                _copy(connection, target, table.slice(start, rows))
        except psycopg.Error as error:
            if classify(error) is not ErrorClass.DATA or connection.closed:
                raise
            line = _line(error) if believe else 0
            if rows == 1:
                refused.append(RowError(start, error.sqlstate or "", error.diag.message_primary or str(error)))
            elif 1 <= line <= rows:
                # The rows before were good as far as this error tells; if they are not, nothing it tells is believed.
                pending += [(start + line, rows - line, True), (start + line - 1, 1, True), (start, line - 1, False)]
            else:
                half = rows // 2
                pending += [(start + half, rows - half, believe), (start, half, believe)]
    return refused


def _line(error: psycopg.Error) -> int:
    """The row of the COPY, from 1, that the error's context names; 0 where it names none."""
    match = _CONTEXT.search(error.diag.context or "")
    return int(match[1]) if match else 0


def _copy(connection: Connection, target: sql.Identifier, table: pa.Table) -> None:
    columns = sql.SQL(", ").join(sql.Identifier(_column(name)) for name in table.column_names)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, columns)
    plain = _plain_schema(table.schema)
    encoder = ArrowToPostgresBinaryEncoder(plain)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(encoder.write_header())
            for batch in _batches(table, plain):
                copy.write(encoder.write_batch(batch))
                failpoints.hit("postgres.mid_copy")
            copy.write(encoder.finish())
        if cursor.rowcount != table.num_rows:
            raise PostgresError(f"COPY of {table.num_rows} rows landed {cursor.rowcount}; the chunk was not committed")


def _column(name: str) -> str:
    # The program's own columns bear their names; a column of a file that is called so bears a hash.
    return name if name in (*ORDER_COLUMNS, DELETED_COLUMN) else postgres_column(name)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without dictionaries, which the encoder refuses."""
    return pa.schema(
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema
    )


def _batches(table: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    step = max(1, min(BATCH_ROWS, BATCH_BYTES * table.num_rows // max(1, table.nbytes)))
    for start in range(0, table.num_rows, step):
        part = table.slice(start, step)
        yield from (part if part.schema.equals(schema) else part.cast(schema)).to_batches()
