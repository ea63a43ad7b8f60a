"""Reads a published table back, typed as it was loaded, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import Copy, sql

from beam_etl.postgres.names import postgres_column
from beam_etl.postgres.session import Connection

BLOCK_BYTES = 4 << 20

# So that text has one meaning, whatever the role or the database prefer.
_TEXT_SETTINGS = "SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 3"


class UnreadableValueError(Exception):
    """A value that no load can have brought, because it is none of its column's Arrow type: infinity as a date."""


def read_table(
    connection: Connection, target: sql.Identifier, schema: pa.Schema, on_batch: Callable[[pa.RecordBatch], None]
) -> None:
    """Gives all rows of a table to on_batch, in any order, within the caller's transaction.

    Args:
      schema: the columns by the names that they have in the files, and their types.

    Raises:
      UnreadableValueError: see there.
      psycopg.Error: the table is gone, or may not be read.
    """
    columns = sql.SQL(", ").join(sql.Identifier(postgres_column(name)) for name in schema.names)
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(columns, target)
    connection.execute(_TEXT_SETTINGS)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in _blocks(copy):
            for batch in _parse(block, schema).to_batches():
                on_batch(batch)


def _blocks(copy: Copy) -> Iterator[bytes]:
    """Whole rows: the server sends one a message (documentation of PostgreSQL, "Message Formats", CopyData)."""
    rows: list[bytes] = []
    size = 0
    while row := bytes(copy.read()):
        rows.append(row)
        size += len(row)
        if size >= BLOCK_BYTES:
            yield b"".join(rows)
            rows, size = [], 0
    if rows:
        yield b"".join(rows)


def _parse(block: bytes, schema: pa.Schema) -> pa.Table:
    """NULL is nothing at all, an empty text is two quotes."""
    try:
        return pa_csv.read_csv(
            pa.BufferReader(block),
            pa_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=schema.names),
            pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pa_csv.ConvertOptions(
                column_types={field.name: field.type for field in schema},
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise UnreadableValueError(str(error)) from error
