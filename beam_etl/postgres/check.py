"""Whether a load can begin in a database, asked before any data moves."""

from __future__ import annotations

from beam_etl.postgres.errors import PostgresConfigurationError
from beam_etl.postgres.names import AUDIT_SCHEMA
from beam_etl.postgres.session import Connection

# The oldest major version that PostgreSQL's own developers still mend.
OLDEST_VERSION = 140000


def check_database(connection: Connection, target_schema: str) -> str:
    """The server's name and version, where this role can load into `target_schema`. Reads only.

    Raises:
      PostgresConfigurationError: old version, standby, other encoding than UTF-8, missing schema or privilege.
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
