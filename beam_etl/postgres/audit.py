"""The audit schema: its tables, their versions, and how they come into a database."""

from __future__ import annotations

from beam_etl.postgres.audit_views import LOAD_BOOKS
from beam_etl.postgres.errors import PostgresConfigurationError
from beam_etl.postgres.names import AUDIT_SCHEMA
from beam_etl.postgres.session import Connection

# One entry a version: version n of the audit schema is what the first n entries make. A released entry never changes.
# The ledger is logged, as the staging tables are: a logged ledger over an unlogged table loses rows after a crash.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE beam_etl.loads (
        load_id text PRIMARY KEY,
        target_schema text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE beam_etl.staging_tables (
        load_id text,
        table_name text,
        schema_hash text,
        staging_name text NOT NULL UNIQUE,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (load_id, table_name, schema_hash)
    );
    CREATE TABLE beam_etl.chunk_ledger (
        load_id text,
        table_name text,
        schema_hash text,
        chunk_id text,
        rows bigint NOT NULL,
        rejects bigint NOT NULL,
        record jsonb NOT NULL,
        row_errors jsonb NOT NULL DEFAULT '[]',
        committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (load_id, table_name, schema_hash, chunk_id)
    );
    CREATE TABLE beam_etl.table_loads (
        load_id text,
        table_name text,
        sequence bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        schema_hash text NOT NULL,
        target_schema text NOT NULL,
        target_table text NOT NULL,
        rows bigint NOT NULL,
        rejects bigint NOT NULL,
        published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (load_id, table_name)
    );
    """,
    # What a table consists of: the loads from the last one with starts_table on, and their files. A lease is held while
    # any row of its token is there; whoever claims it deletes the rows of others that have run out.
    """
    ALTER TABLE beam_etl.table_loads ADD COLUMN starts_table boolean NOT NULL DEFAULT true;
    CREATE TABLE beam_etl.table_files (
        target_schema text,
        table_name text,
        file_key text,
        uri text NOT NULL,
        member text NOT NULL,
        version text NOT NULL,
        load_id text NOT NULL,
        PRIMARY KEY (target_schema, table_name, file_key)
    );
    CREATE SEQUENCE beam_etl.lease_tokens;
    CREATE TABLE beam_etl.leases (
        target_schema text,
        table_name text,
        run text,
        token bigint NOT NULL,
        owner text NOT NULL,
        holder jsonb NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (target_schema, table_name, run)
    );
    """,
    LOAD_BOOKS,
)


def lock_until_commit(connection: Connection, what: str) -> None:
    """Waits until no other transaction holds the advisory lock of that name, and holds it to the end of this one."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"beam_etl:{what}"])


def create_audit_schema(connection: Connection) -> None:
    """Brings the audit schema to this version, in the caller's transaction.

    Any number of processes may do it at once: they queue at an advisory lock, and the second finds the work done. Where
    the schema is up to date, the role needs no right to create anything.

    Raises:
      PostgresConfigurationError: the role may not create the schema, or it was made by a newer version of this program.
    """
    lock_until_commit(connection, "audit schema")
    _require_schema(connection)
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise PostgresConfigurationError(
            f"the schema {AUDIT_SCHEMA} has version {version}, this program knows {len(MIGRATIONS)}; "
            "use the newer version of beam_etl that made it"
        )
    if version == 0:
        connection.execute(
            "CREATE TABLE beam_etl.schema_version "
            "(version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute(statements.encode())
        connection.execute("INSERT INTO beam_etl.schema_version (version) VALUES (%s)", [number])


def _require_schema(connection: Connection) -> None:
    # CREATE SCHEMA IF NOT EXISTS asks for the privilege even where the schema exists; so look first.
    exists, may_create, role, database = connection.execute(
        "SELECT to_regnamespace('beam_etl') IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), "
        "current_user, current_database()"
    ).fetchone() or (False, False, "", "")
    if exists:
        return
    if not may_create:
        raise PostgresConfigurationError(
            f"the role {role!r} may not create the schema {AUDIT_SCHEMA} in database {database!r}; "
            f'let an administrator run CREATE SCHEMA {AUDIT_SCHEMA} AUTHORIZATION "{role}", or GRANT CREATE ON DATABASE'
        )
    connection.execute("CREATE SCHEMA beam_etl")


def _version(connection: Connection) -> int:
    found = connection.execute("SELECT to_regclass('beam_etl.schema_version') IS NOT NULL").fetchone()
    if not found or not found[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM beam_etl.schema_version").fetchone()
    return int(row[0]) if row else 0
