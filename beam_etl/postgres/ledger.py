"""The ledger of committed chunks: first writer wins, and what it wrote is what everybody reads."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from psycopg.types.json import Jsonb

from beam_etl.model import ChunkRecord
from beam_etl.postgres.errors import RowError
from beam_etl.postgres.session import Connection


class CommittedChunk(NamedTuple):
    """A chunk's record in the ledger, and the rows that PostgreSQL refused; both as first committed."""

    record: ChunkRecord
    row_errors: list[RowError]


def enter_chunk(connection: Connection, record: ChunkRecord) -> bool:
    """Whether this transaction is the chunk's first. Waits for another that has entered it and has not ended."""
    entered = connection.execute(
        "INSERT INTO beam_etl.chunk_ledger (load_id, table_name, schema_hash, chunk_id, rows, rejects, record) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [*_key(record), record.rows, record.rejects, Jsonb(record.to_json())],
    )
    return entered.rowcount == 1


def correct_chunk(connection: Connection, committed: CommittedChunk) -> None:
    """Rewrites the row that this transaction has entered, after PostgreSQL refused some of its rows."""
    record, row_errors = committed
    connection.execute(
        "UPDATE beam_etl.chunk_ledger SET rows = %s, rejects = %s, record = %s, row_errors = %s "
        "WHERE load_id = %s AND table_name = %s AND schema_hash = %s AND chunk_id = %s",
        [
            record.rows,
            record.rejects,
            Jsonb(record.to_json()),
            Jsonb([dataclasses.asdict(error) for error in row_errors]),
            *_key(record),
        ],
    )


def read_chunk(
    connection: Connection, load_id: str, table: str, schema_hash: str, chunk_id: str
) -> CommittedChunk | None:
    """What the first writer has committed under this key, or None."""
    row = connection.execute(
        "SELECT record, row_errors FROM beam_etl.chunk_ledger "
        "WHERE load_id = %s AND table_name = %s AND schema_hash = %s AND chunk_id = %s",
        [load_id, table, schema_hash, chunk_id],
    ).fetchone()
    return CommittedChunk(ChunkRecord.from_json(row[0]), [RowError(**error) for error in row[1]]) if row else None


def read_records(connection: Connection, load_id: str, table: str, schema_hash: str) -> list[ChunkRecord]:
    """All records of a table under a schema, in the order of their chunk ids."""
    found = connection.execute(
        "SELECT record FROM beam_etl.chunk_ledger WHERE load_id = %s AND table_name = %s AND schema_hash = %s "
        'ORDER BY chunk_id COLLATE "C"',
        [load_id, table, schema_hash],
    )
    return [ChunkRecord.from_json(row[0]) for row in found]


def read_chunk_ids(connection: Connection, load_id: str, table: str, schema_hash: str) -> set[str]:
    found = connection.execute(
        "SELECT chunk_id FROM beam_etl.chunk_ledger WHERE load_id = %s AND table_name = %s AND schema_hash = %s",
        [load_id, table, schema_hash],
    )
    return {str(row[0]) for row in found}


def forget_chunks(connection: Connection, load_id: str, table: str, schema_hash: str) -> None:
    connection.execute(
        "DELETE FROM beam_etl.chunk_ledger WHERE load_id = %s AND table_name = %s AND schema_hash = %s",
        [load_id, table, schema_hash],
    )


def _key(record: ChunkRecord) -> list[str]:
    return [record.load_id, record.table, record.schema_hash, record.chunk_id]
