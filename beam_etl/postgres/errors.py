"""What went wrong in PostgreSQL, by SQLSTATE class, and what to do about it.

Codes and classes: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import dataclasses
import enum

import psycopg
from psycopg import errors

from beam_etl.secrets import redact


class PostgresError(Exception):
    """PostgreSQL failed in a way that neither repeating nor rejecting rows can mend."""


class PostgresConfigurationError(PostgresError, ValueError):
    """The server, the database, the role or the target must be changed by a person first; the message says how."""


class PostgresUnavailableError(PostgresError):
    """The database stayed out of reach or overloaded for as long as was allowed; the same call may succeed later."""


class PublishRefusedError(PostgresError):
    """A staged table was not published, because that would break or lose something; nothing was changed."""


class ConnectionLostError(psycopg.OperationalError):
    """Any failure that left its connection closed, whatever its code."""


class ErrorClass(enum.Enum):
    """What a failure calls for."""

    CONFLICT = "the same transaction again"
    LOST = "a new connection, then the same transaction again"
    BUSY = "patience, then the same transaction again"
    DATA = "isolate the rows at fault"
    REFUSED = "a person"
    OTHER = "a look at the error"


TRANSIENT = frozenset({ErrorClass.CONFLICT, ErrorClass.LOST, ErrorClass.BUSY})

# These mean that the binary stream itself is wrong: a defect of the program, never of a row or of the network.
_BROKEN_STREAM = frozenset({"22P03", "22P04", "08P01"})
_EXACT = {
    "25006": ErrorClass.LOST,  # read-only: after a failover the new primary is elsewhere
    "54000": ErrorClass.DATA,  # the row is too big for a page
    "55P03": ErrorClass.BUSY,  # lock_timeout
    "57014": ErrorClass.BUSY,  # cancelled by an administrator
}
_BY_PREFIX = (
    ("40", ErrorClass.CONFLICT),
    ("08", ErrorClass.LOST),
    ("57P0", ErrorClass.LOST),
    ("53", ErrorClass.BUSY),
    ("22", ErrorClass.DATA),
    ("23", ErrorClass.DATA),
    ("54", ErrorClass.REFUSED),
    ("42", ErrorClass.REFUSED),
    ("3D", ErrorClass.REFUSED),
    ("3F", ErrorClass.REFUSED),
    ("28", ErrorClass.REFUSED),
    ("0A", ErrorClass.REFUSED),
)

# A refused connection carries no SQLSTATE, only the server's words after FATAL. These pass by themselves.
_PASSING_REFUSALS = (
    "too many clients",
    "too many connections",
    "connection slots",
    "no more connections allowed",
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting connections",
    "terminating connection",
)

_REMEDIES = {
    "42501": "grant the role what it needs: CREATE and USAGE on the schemas, ownership of the table it replaces",
    "42P01": "the table is gone: was the staging of this load dropped meanwhile? Start the load again",
    "42703": "the staging table has other columns than the chunk; drop the staging of this load and start it again",
    "54011": "PostgreSQL holds at most 1,600 columns; load this table to Parquet only, or select columns",
    "53100": "free space on the database server's disk",
}


@dataclasses.dataclass(frozen=True)
class RowError:
    """A row that PostgreSQL refused.

    Attributes:
      row: position in the chunk's Arrow table, from 0.
      sqlstate: PostgreSQL's five-character code.
      reason: PostgreSQL's message.
    """

    row: int
    sqlstate: str
    reason: str


def classify(error: BaseException) -> ErrorClass:
    """What an exception calls for; OTHER for whatever does not come from PostgreSQL."""
    if isinstance(error, ConnectionLostError):
        return ErrorClass.LOST
    if not isinstance(error, psycopg.Error):
        return ErrorClass.OTHER
    code = error.sqlstate
    if code is None:
        return _classify_connection_error(error)
    if code in _EXACT:
        return _EXACT[code]
    if code in _BROKEN_STREAM:
        return ErrorClass.OTHER
    return next((kind for prefix, kind in _BY_PREFIX if code.startswith(prefix)), ErrorClass.OTHER)


def _classify_connection_error(error: psycopg.Error) -> ErrorClass:
    if not isinstance(error, psycopg.OperationalError):
        return ErrorClass.OTHER
    text = str(error)
    if any(passing in text for passing in _PASSING_REFUSALS):
        return ErrorClass.BUSY
    asks_for_password = error.pgconn is not None and error.pgconn.needs_password
    return ErrorClass.REFUSED if "FATAL:" in text or asks_for_password else ErrorClass.LOST


def explain(error: psycopg.Error, place: str, tried_seconds: float) -> PostgresError:
    """The exception to raise in its stead: names the place and the remedy, never a password."""
    message = redact(" ".join((error.diag.message_primary or str(error) or type(error).__name__).split()))
    kind = classify(error)
    remedy = _REMEDIES.get(error.sqlstate or "")
    if kind is ErrorClass.REFUSED:
        remedy = remedy or "check user, password, database name and privileges in the connection string"
        return PostgresConfigurationError(f"PostgreSQL at {place} refused: {message}; {remedy}")
    if isinstance(error, errors.LockNotAvailable):
        return PostgresUnavailableError(
            f"PostgreSQL at {place}: another session kept a lock for {tried_seconds:.0f} s ({message}); "
            "end it (see pg_stat_activity), then repeat"
        )
    if kind in TRANSIENT:
        remedy = remedy or "is the server up, is host and port right, does a firewall stand between"
        return PostgresUnavailableError(
            f"PostgreSQL at {place} is unreachable or overloaded, tried for {tried_seconds:.0f} s: {message}; {remedy}"
        )
    return PostgresError(f"PostgreSQL at {place} failed with {error.sqlstate}: {message}")
