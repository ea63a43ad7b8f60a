"""Whether a load can begin in a database, asked before any data moves."""

from __future__ import annotations

from beam_etl.postgres.errors import PostgresConfigurationError
from beam_etl.postgres.names import AUDIT_SCHEMA
from beam_etl.postgres.session import Connection

# The oldest major version that PostgreSQL's own developers still mend.
OLDEST_VERSION = 140000


def check_database(connection: Connection, target_schema: str, connections: int = 1) -> str:
    """The server's name and version, where this role can load into `target_schema`. Reads only.

    Raises:
      PostgresConfigurationError: old version, standby, other encoding than UTF-8, missing schema or privilege, or
        the server allows fewer connections than the load is to have.
    """
    version, number, encoding, standby, role, database = connection.execute(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int, "
        "current_setting('server_encoding'), pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, "
        "current_user, current_database()"
    ).fetchone() or ("", 0, "", True, "", "")
    if number < OLDEST_VERSION:
        raise PostgresConfigurationError(
            f"PostgreSQL {version} is too old; use version {OLDEST_VERSION // 10000} or later"
        )
    if standby:
        raise PostgresConfigurationError("PostgreSQL is a standby or read-only here; connect to the primary")
    if encoding != "UTF8":
        raise PostgresConfigurationError(
            f"database {database!r} is encoded as {encoding} and cannot hold all text; create one with ENCODING 'UTF8'"
        )
    _check_target_schema(connection, target_schema, role, database)
    _check_audit_schema(connection, role, database)
    _check_connections(connection, connections, role, database)
    return f"PostgreSQL {version}"


def _check_target_schema(connection: Connection, schema: str, role: str, database: str) -> None:
    row = connection.execute(
        "SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') "
        "FROM pg_namespace WHERE nspname = %s",
        [schema],
    ).fetchone()
    if row is None:
        raise PostgresConfigurationError(
            f'database {database!r} has no schema {schema!r}; run CREATE SCHEMA "{schema}"'
        )
    if not row[0]:
        raise PostgresConfigurationError(
            f"the role {role!r} may not create tables in schema {schema!r}; "
            f'run GRANT CREATE, USAGE ON SCHEMA "{schema}" TO "{role}"'
        )


def _check_audit_schema(connection: Connection, role: str, database: str) -> None:
    row = connection.execute(
        "SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') "
        "FROM pg_namespace WHERE nspname = %s), has_database_privilege(current_database(), 'CREATE'))",
        [AUDIT_SCHEMA],
    ).fetchone()
    if not (row and row[0]):
        raise PostgresConfigurationError(
            f"the role {role!r} can neither make nor use the schema {AUDIT_SCHEMA} in database {database!r}; "
            f'run CREATE SCHEMA {AUDIT_SCHEMA} AUTHORIZATION "{role}", '
            f'or GRANT CREATE, USAGE ON SCHEMA {AUDIT_SCHEMA} TO "{role}"'
        )


def _check_connections(connection: Connection, wanted: int, role: str, database: str) -> None:
    """Beside its transactions a load needs one connection that renews its leases.

    What others hold at the moment passes; what the server allows at all does not.
    """
    server, of_role, of_database = connection.execute(
        "SELECT current_setting('max_connections')::int - CASE WHEN rolsuper THEN 0 ELSE "
        "current_setting('superuser_reserved_connections')::int "
        "+ coalesce(current_setting('reserved_connections', true), '0')::int END, rolconnlimit, datconnlimit "
        "FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
    ).fetchone() or (0, -1, -1)
    allowed, where, change = min(
        (limit, where, change)
        for limit, where, change in (
            (server, "the server", "raise max_connections in postgresql.conf"),
            (of_role, f"the role {role!r}", f'run ALTER ROLE "{role}" CONNECTION LIMIT {wanted + 1}'),
            (
                of_database,
                f"the database {database!r}",
                f'run ALTER DATABASE "{database}" CONNECTION LIMIT {wanted + 1}',
            ),
        )
        if limit >= 0
    )
    if allowed < wanted + 1:
        lower = f"lower --postgres_connections to {allowed - 1}, or " if allowed > 1 else ""
        raise PostgresConfigurationError(
            f"{where} allows {allowed} connections, and the load needs {wanted + 1} (--postgres_connections={wanted} and one "
            f"for its leases); {lower}{change}"
        )
