"""Chunks into PostgreSQL, each exactly once, and staged tables into public view.

Every chunk is one transaction: its row in the ledger first, where the unique key lets one writer through and makes all
others wait, then its rows by binary COPY into the staging table of this load and schema. Ledger and staging table have
the same persistence, so what the ledger says is there is there, after any crash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
from psycopg import sql

from beam_etl import failpoints
from beam_etl.loads.keyed import UpsertCounts, has_key
from beam_etl.loads.table_state import ADDING, PublishTerms, TableState
from beam_etl.model import ChunkRecord, ConvertedChunk
from beam_etl.postgres.audit import create_audit_schema, lock_until_commit
from beam_etl.postgres.check import check_database
from beam_etl.postgres.copy import copy_table, with_order
from beam_etl.postgres.dsn import resolve_dsn
from beam_etl.postgres.errors import PostgresError, PublishRefusedError
from beam_etl.postgres.ledger import (
    CommittedChunk,
    correct_chunk,
    enter_chunk,
    forget_chunks,
    read_chunk,
    read_chunk_ids,
    read_records,
)
from beam_etl.postgres.limits import DEFAULT_LIMITS, PostgresLimits
from beam_etl.postgres.names import (
    AUDIT_SCHEMA,
    DELETED_COLUMN,
    ORDER_COLUMNS,
    postgres_column,
    postgres_name,
    staging_name,
)
from beam_etl.postgres.publish import append_rows, count_rows, swap_tables
from beam_etl.postgres.session import Connection, PostgresSession
from beam_etl.postgres.tables import (
    Publication,
    enter_files,
    forget_files,
    latest_publication,
    published_schema,
    read_loads,
    read_loads_after,
    read_state,
    require_token,
)
from beam_etl.postgres.upsert import start_keyed, upsert_rows
from beam_etl.schema import TableSchema

T = TypeVar("T")
REPLACE = PublishTerms()


class PostgresStore:
    """One load's place in a PostgreSQL database. Cheap to make and to pickle; connects after `open`, when first used.

    Safe to share between threads. Every method may be called again after any failure, by any process: see each one's
    retry story; transient failures are repeated inside, for at most limits.retry_seconds.

    Args:
      dsn_reference: see postgres_dsn.resolve_dsn; resolved where it is used, never pickled resolved.
      load_id: of the load; part of every key.
      target_schema: existing schema into which tables are published.
      limits: how many transactions may run at once from this process, all stores of these limits taken together, and for
        how long.

    Raises:
      ValueError: the target schema is the audit schema.
    """

    def __init__(
        self,
        dsn_reference: str,
        load_id: str,
        target_schema: str = "public",
        limits: PostgresLimits = DEFAULT_LIMITS,
    ) -> None:
        if target_schema == AUDIT_SCHEMA:
            raise ValueError(
                f"target_schema {target_schema!r} is where the ledger lives; name another schema, such as public"
            )
        self.dsn_reference = dsn_reference
        self.load_id = load_id
        self.target_schema = target_schema
        self.limits = limits
        self._session: PostgresSession | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.dsn_reference, self.load_id, self.target_schema, self.limits)

    def open(self) -> None:
        """Resolves the reference, so that a wrong one fails here; idempotent. Raises ValueError with a remedy."""
        if self._session is None:
            resolve_dsn(self.dsn_reference)
            self._session = PostgresSession.shared(self.dsn_reference, self.limits)

    def close(self) -> None:
        """Closes the connections; a transaction still running elsewhere ends first. Idempotent; may be opened again."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def check(self) -> str:
        """Tries once whether a load can begin, and describes the server, as "PostgreSQL 18.1 at host:5432/database".

        Changes nothing. Raises PostgresConfigurationError or PostgresUnavailableError, each with place and remedy.
        """
        session = PostgresSession(self.dsn_reference, PostgresLimits(1, retry_seconds=0.0))
        try:
            server = session.run(
                lambda connection: check_database(connection, self.target_schema, self.limits.connections)
            )
            return f"{server} at {session.place}"
        finally:
            session.close()

    def prepare(self) -> None:
        """Makes or updates the audit schema and enters this load, if the store has one. Idempotent; processes may race."""

        def work(connection: Connection) -> None:
            create_audit_schema(connection)
            if not self.load_id:
                return
            connection.execute(
                "INSERT INTO beam_etl.loads (load_id, target_schema) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [self.load_id, self.target_schema],
            )

        self.run(work)

    def create_staging(self, table: str, schema: TableSchema) -> None:
        """Makes the staging table of this load, table and schema. Idempotent; processes may race.

        Makes none where this load has already published the table with this schema.
        """
        name = self._staging_name(table, schema.hash)
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(postgres_column(column.name)), sql.SQL(column.type.postgres))
            for column in schema.columns
        )
        if schema.key:
            columns += sql.SQL(', {} text COLLATE "C", {} bigint, {} boolean').format(
                *map(sql.Identifier, (*ORDER_COLUMNS, DELETED_COLUMN))
            )

        def work(connection: Connection) -> None:
            self.lock_table(connection, table)
            if published_schema(connection, self.load_id, table) == schema.hash:
                return
            # Autovacuum would read the growing table again and again; publishing analyses it and turns it on.
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}) WITH (autovacuum_enabled = false)").format(
                    sql.Identifier(AUDIT_SCHEMA, name), columns
                )
            )
            connection.execute(
                "INSERT INTO beam_etl.staging_tables (load_id, table_name, schema_hash, staging_name) "
                "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [self.load_id, table, schema.hash, name],
            )

        self.run(work)

    def commit_chunk(self, converted: ConvertedChunk, table: pa.Table) -> CommittedChunk:
        """Lands a chunk's rows and its record in one transaction: at least once called, exactly once in effect.

        The ledger's row comes first. Whoever finds the key taken waits for its owner's transaction to end, then reads
        and returns the first writer's record, whatever it was given itself: so duplicates, zombies, replays after a
        lost connection and after a lost answer to COMMIT change nothing. Rows that PostgreSQL refuses are left out,
        counted as rejects in the record (records = rows + rejects), returned, and kept in the ledger.

        Raises:
          PostgresError: PostgreSQL counted other rows than were sent; nothing was committed.
          PostgresConfigurationError, PostgresUnavailableError: see postgres_errors.
        """
        chunk = converted.chunk
        record = ChunkRecord(
            load_id=self.load_id,
            table=chunk.table,
            schema_hash=converted.schema_hash,
            chunk_id=chunk.chunk_id,
            sink="postgres",
            spans=converted.spans,
            rows=table.num_rows,
            rejects=converted.rejects,
            rejects_file=converted.rejects_file,
        )
        staging = sql.Identifier(AUDIT_SCHEMA, self._staging_name(chunk.table, converted.schema_hash))
        if has_key(table.schema):
            table = with_order(table, chunk.chunk_id)

        def work(connection: Connection) -> CommittedChunk:
            failpoints.hit("postgres.before_ledger")
            if not enter_chunk(connection, record):
                first = read_chunk(connection, self.load_id, chunk.table, converted.schema_hash, chunk.chunk_id)
                if first is None:
                    raise PostgresError(f"chunk {chunk.chunk_id} left the ledger meanwhile: its staging was dropped")
                return first
            failpoints.hit("postgres.after_ledger")
            refused = copy_table(connection, staging, table)
            rows, rejects = record.rows - len(refused), record.rejects + len(refused)
            committed = CommittedChunk(dataclasses.replace(record, rows=rows, rejects=rejects), refused)
            if refused:
                correct_chunk(connection, committed)
            return committed

        return self.run(work)

    def read_record(self, table: str, schema_hash: str, chunk_id: str) -> ChunkRecord | None:
        """The committed record of a chunk, or None. Reads only."""
        found = self.run(lambda connection: read_chunk(connection, self.load_id, table, schema_hash, chunk_id))
        return found.record if found else None

    def read_records(self, table: str, schema_hash: str) -> list[ChunkRecord]:
        """The committed records of a table under a schema, in the order of their chunk ids. Reads only."""
        return self.run(lambda connection: read_records(connection, self.load_id, table, schema_hash))

    def committed_chunks(self, table: str, schema_hash: str) -> set[str]:
        """The ids of a table's committed chunks under a schema: what a resumed load need not repeat. Reads only."""
        return self.run(lambda connection: read_chunk_ids(connection, self.load_id, table, schema_hash))

    def count_rows(self, table: str, schema_hash: str) -> int:
        """The rows that are really there: in staging, or in the target once published by this load. Reads only.

        Rows that were added to a table, or to which others were added, are as many as were counted within the
        transaction that published them.

        Raises:
          PublishRefusedError: this load published the table, and another has replaced it since.
        """

        def work(connection: Connection) -> int:
            if published_schema(connection, self.load_id, table) != schema_hash:
                return count_rows(connection, AUDIT_SCHEMA, self._staging_name(table, schema_hash))
            loads = read_loads(connection, self.target_schema, table)
            own = next((load for load in loads if load.load_id == self.load_id), None)
            if own is None:
                raise PublishRefusedError(f"table {table!r} of load {self.load_id!r} was replaced by a later load")
            if own.staged_rows is not None:
                return own.staged_rows
            return count_rows(connection, self.target_schema, own.target_table) if len(loads) == 1 else own.rows

        return self.run(work)

    def publish(
        self,
        table: str,
        schema_hash: str,
        rows: int,
        rejects: int,
        target_table: str | None = None,
        terms: PublishTerms = REPLACE,
        counts: UpsertCounts | None = None,
    ) -> bool:
        """Makes the staging table the target, or part of it, in one transaction that also enters the load in the books.

        True where this call published; False where this load had published the table before, by another process or by a
        COMMIT whose answer was lost: either way it is published. Readers see the old table or the new one.

        Args:
          rows: must be in the staging table, or nothing is published.
          rejects: for the books only.
          counts: what the other sink makes of an upsert of as many records; another outcome is refused.
          target_table: name in the target schema; the table's own where None.

        Raises:
          PublishRefusedError: rows are missing or too many, the target is not an ordinary table, objects depend on it,
            its columns or constraints do not take the rows, or this load has published the table with another schema.
          TableChangedError, LeaseLostError: another load was faster.
          PostgresUnavailableError: the target stayed locked for retry_seconds.
        """
        target = postgres_name(target_table or table)
        staging = self._staging_name(table, schema_hash)

        def work(connection: Connection) -> bool:
            self.lock_table(connection, table)
            state = read_state(connection, self.target_schema, table, target)
            entered = connection.execute(
                "INSERT INTO beam_etl.table_loads "
                "(load_id, table_name, schema_hash, target_schema, target_table, rows, rejects, starts_table) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [
                    *(self.load_id, table, schema_hash, self.target_schema, target, rows, rejects),
                    terms.mode not in ADDING or not state.loads,
                ],
            )
            if not entered.rowcount:
                self._refuse_other_schema(connection, table, schema_hash)
                return False
            require_token(connection, self.target_schema, table, terms.token)
            terms.check_base(table, state.last_load, state.exists)
            place = sql.Identifier(AUDIT_SCHEMA, staging)
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(place))
            found = count_rows(connection, AUDIT_SCHEMA, staging)
            if found != rows:
                raise PublishRefusedError(
                    f"table {table!r} was not published: its staging table holds {found} rows, its books say {rows}"
                )
            if terms.mode == "upsert":
                self._upsert(connection, table, staging, target, terms, counts, bool(state.loads))
            elif terms.mode == "append" and state.loads:
                append_rows(connection, staging, self.target_schema, target, rows, self.limits.retry_seconds)
            else:
                connection.execute(sql.SQL("ANALYZE {}").format(place))  # good plans from the first query on
                swap_tables(connection, staging, self.target_schema, target, self.limits.retry_seconds)
            if terms.mode not in ADDING or not state.loads:
                forget_files(connection, self.target_schema, table)
            enter_files(connection, self.target_schema, table, self.load_id, terms.sources)
            connection.execute("DELETE FROM beam_etl.staging_tables WHERE staging_name = %s", [staging])
            failpoints.hit("publish.swapped")
            return True

        return self.run(work)

    def _upsert(
        self,
        connection: Connection,
        table: str,
        staging: str,
        target: str,
        terms: PublishTerms,
        expected: UpsertCounts | None,
        exists: bool,
    ) -> None:
        key = [postgres_column(name) for name in terms.key]
        bring = upsert_rows if exists else start_keyed
        counts = bring(connection, staging, self.target_schema, target, key, self.limits.retry_seconds)
        found = (counts.rows, counts.superseded, counts.deleted)
        if (
            expected
            and expected.staged == counts.staged
            and found
            != (
                expected.rows,
                expected.superseded,
                expected.deleted,
            )
        ):
            raise PublishRefusedError(
                f"table {table!r} was not published: its sinks make (rows, superseded, deleted) {found} and "
                f"{(expected.rows, expected.superseded, expected.deleted)} of the same records"
            )
        connection.execute(
            "UPDATE beam_etl.table_loads SET rows = %s, staged_rows = %s WHERE load_id = %s AND table_name = %s",
            [counts.rows, counts.staged, self.load_id, table],
        )

    def state(self, table: str) -> TableState:
        """What the table holds. Reads only."""

        def work(connection: Connection) -> TableState:
            latest = self._latest(connection, table)
            target = latest.target_table if latest else postgres_name(table)
            return read_state(connection, self.target_schema, table, target)

        return self.run(work)

    def loads_of(self, table: str) -> list[Publication]:
        """The loads that the table consists of, in the order of their publishing. Reads only."""
        return self.run(lambda connection: read_loads(connection, self.target_schema, table))

    def has_published(self, table: str) -> bool:
        """Whether this load ever published the table, even if it was replaced since. Reads only."""
        return self.run(lambda connection: published_schema(connection, self.load_id, table)) is not None

    def loads_after(self, table: str) -> list[str]:
        """The loads that were published into the table after this one. Reads only."""
        return self.run(lambda connection: read_loads_after(connection, self.target_schema, table, self.load_id))

    def published_load(self, table: str) -> str | None:
        """The load that published the table last into this target schema, or None. Reads only."""
        latest = self.run(lambda connection: self._latest(connection, table))
        return latest.load_id if latest else None

    def target_exists(self, table: str) -> bool:
        """Whether the target is there: under the name it was last published as, else under its own. Reads only."""

        def work(connection: Connection) -> bool:
            latest = self._latest(connection, table)
            row = connection.execute(
                "SELECT true FROM pg_tables WHERE schemaname = %s AND tablename = %s",
                [self.target_schema, latest.target_table if latest else postgres_name(table)],
            ).fetchone()
            return row is not None

        return self.run(work)

    def staged_loads(self) -> list[str]:
        """All loads that have staging tables. Reads only."""
        rows = self.run(
            lambda connection: connection.execute("SELECT DISTINCT load_id FROM beam_etl.staging_tables").fetchall()
        )
        return [load_id for (load_id,) in rows]

    def drop_staging(self, table: str | None = None) -> None:
        """Drops this load's staging tables, of one table or of all, and forgets their chunks; idempotent.

        The ledger of what was published is kept. A zombie that commits meanwhile is waited for, and forgotten too.
        """

        def work(connection: Connection) -> None:
            staged = connection.execute(
                "DELETE FROM beam_etl.staging_tables WHERE load_id = %s AND (%s::text IS NULL OR table_name = %s) "
                "RETURNING staging_name, table_name, schema_hash",
                [self.load_id, table, table],
            ).fetchall()
            for name, table_name, schema_hash in staged:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(AUDIT_SCHEMA, name)))
                forget_chunks(connection, self.load_id, table_name, schema_hash)

        self.run(work)

    def run(self, work: Callable[[Connection], T]) -> T:
        """The result of work(connection), committed; see PostgresSession."""
        if self._session is None:
            raise RuntimeError("this PostgresStore is not open; call open() first, for example in setup")
        return self._session.run(work)

    def _staging_name(self, table: str, schema_hash: str) -> str:
        return staging_name(self.load_id, table, schema_hash)

    def lock_table(self, connection: Connection, table: str) -> None:
        """Makes publications of a table queue, so that their sequence is the order of their commits."""
        lock_until_commit(connection, f"table {self.target_schema!r} {table!r}")

    def _latest(self, connection: Connection, table: str) -> Publication | None:
        return latest_publication(connection, self.target_schema, table)

    def _refuse_other_schema(self, connection: Connection, table: str, schema_hash: str) -> None:
        published = published_schema(connection, self.load_id, table)
        if published != schema_hash:
            raise PublishRefusedError(
                f"load {self.load_id!r} has published table {table!r} with schema {published}, not {schema_hash}; "
                "start a new load to replace it"
            )
