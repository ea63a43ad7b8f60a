"""A few connections to one database, and the rule by which a transaction is run again."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
import tenacity
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from beam_etl import failpoints, interruption
from beam_etl.postgres.dsn import describe_dsn, resolve_dsn
from beam_etl.postgres.errors import TRANSIENT, ConnectionLostError, ErrorClass, classify, explain

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

# Dead peers are noticed by the operating system instead of being waited for; what the DSN says goes first.
_CONNECTION_DEFAULTS = {
    "application_name": "beam_etl",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

# Local to the transaction, so that a transaction pooler such as pgbouncer may stand between. A role's statement_timeout
# would cut every large COPY; a stuck worker must not hold the ledger's row for ever, nor anybody wait for ever.
_TRANSACTION_SETTINGS = (
    "SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = '10min'"
)


CANCEL_SECONDS = 0.2


def cancel_all() -> None:
    """Cancels whatever this process is doing in any database."""
    for session in list(_sessions):
        session.cancel()


class PostgresSession:
    """Runs transactions on at most `max_connections` connections, from any number of threads.

    Retry story: `run` gives the same work to a new transaction after a serialization failure, a deadlock, a lost
    connection or an overloaded server, waiting exponentially longer with jitter, for at most `retry_seconds`. Nobody
    knows whether a COMMIT took place whose answer was lost, so the work itself must be safe to replay.
    """

    def __init__(self, reference: str, retry_seconds: float, max_connections: int) -> None:
        self.reference = reference
        self.retry_seconds = retry_seconds
        self.place = ""
        self._slots = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False
        _sessions.add(self)

    def run(self, work: Callable[[Connection], T]) -> T:
        """The result of work(connection), committed.

        Raises:
          PostgresConfigurationError, PostgresUnavailableError, PostgresError: see postgres_errors.explain.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: classify(error) in TRANSIENT),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=10.0),
            stop=tenacity.stop_after_delay(self.retry_seconds),
            reraise=True,
        )
        begun = time.monotonic()
        try:
            result: T = retrying(self._run_once, work)
            return result
        except psycopg.Error as error:
            raise explain(error, self.place, time.monotonic() - begun) from error

    def close(self) -> None:
        """Closes idle connections now and busy ones when their transaction ends; idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def cancel(self) -> None:
        """Cancels what runs on every busy connection, which else would go on in the server without its client."""
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)

    def _run_once(self, work: Callable[[Connection], T]) -> T:
        with self._slots:
            connection = self._take()
            try:
                with connection.transaction():
                    connection.execute(_TRANSACTION_SETTINGS)
                    result = work(connection)
                    failpoints.hit("postgres.before_commit")
                failpoints.hit("postgres.after_commit")
                return result
            except psycopg.Error as error:
                if connection.closed and classify(error) not in (ErrorClass.LOST, ErrorClass.BUSY):
                    raise ConnectionLostError(*error.args) from error
                raise
            finally:
                self._give_back(connection)

    def _take(self) -> Connection:
        interruption.pause_if_stopping()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        with self._lock:
            self._busy.add(connection)
        return connection

    def _connect(self) -> Connection:
        dsn = resolve_dsn(self.reference)
        self.place = describe_dsn(dsn)
        parameters: dict[str, Any] = {**_CONNECTION_DEFAULTS, **conninfo_to_dict(dsn), "client_encoding": "utf8"}
        # autocommit: a transaction is what `transaction()` says. No prepared statements, for the pooler's sake again.
        connection = psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if (
                not self._closed
                and not connection.closed
                and connection.info.transaction_status is TransactionStatus.IDLE
            ):
                self._idle.append(connection)
                return
        connection.close()


_sessions: weakref.WeakSet[PostgresSession] = weakref.WeakSet()
