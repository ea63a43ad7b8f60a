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
from beam_etl.postgres.errors import TRANSIENT, ConnectionLostError, ErrorClass, classify, explain, is_shortage
from beam_etl.postgres.limits import PostgresLimits
from beam_etl.postgres.slots import Slots

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

CANCEL_SECONDS = 0.2


def cancel_all() -> None:
    """Cancels whatever this process is doing in any database."""
    for session in list(_sessions):
        session.cancel()


class PostgresSession:
    """Runs transactions on at most `limits.connections` connections, from any number of threads.

    Retry story: `run` gives the same work to a new transaction after a serialization failure, a deadlock, a lost
    connection or an overloaded server, waiting exponentially longer with jitter, for at most `limits.retry_seconds`. Where
    the server lacks memory, disk or connections, fewer transactions run at once until it has recovered. Nobody
    knows whether a COMMIT took place whose answer was lost, so the work itself must be safe to replay.
    """

    def __init__(self, reference: str, limits: PostgresLimits) -> None:
        self.reference = reference
        self.limits = limits
        self.place = ""
        self.slots = Slots(limits.connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False
        self._users = 0
        _sessions.add(self)

    @classmethod
    def shared(cls, reference: str, limits: PostgresLimits) -> PostgresSession:
        """This process's session of these limits; close it as often as it was asked for.

        So the number of connections follows from the limits, not from how many steps a runner opens at once.
        """
        with _sharing:
            session = _shared.get((reference, limits)) or cls(reference, limits)
            _shared[reference, limits] = session
            session._users += 1
            return session

    def run(self, work: Callable[[Connection], T]) -> T:
        """The result of work(connection), committed.

        Raises:
          PostgresConfigurationError, PostgresUnavailableError, PostgresError: see postgres_errors.explain.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: classify(error) in TRANSIENT),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=10.0),
            stop=tenacity.stop_after_delay(self.limits.retry_seconds),
            reraise=True,
        )
        begun = time.monotonic()
        try:
            result: T = retrying(self._attempt, work)
            return result
        except psycopg.Error as error:
            raise explain(error, self.place, time.monotonic() - begun) from error

    def close(self) -> None:
        """Once the last user is gone, closes idle connections now and busy ones when their transaction ends."""
        with _sharing:
            self._users -= 1
            if self._users > 0:
                return
            if _shared.get((self.reference, self.limits)) is self:
                del _shared[self.reference, self.limits]
        with self._lock:
            self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with self._lock:
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

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        """One transaction; a shortage of the server leaves fewer slots for those that follow."""
        try:
            result = self._run_once(work)
        except psycopg.Error as error:
            if is_shortage(error):
                # Idle connections are what others may be waiting for.
                self.slots.narrow()
                self._close_idle()
            raise
        self.slots.widen()
        return result

    def _run_once(self, work: Callable[[Connection], T]) -> T:
        with self.slots.take():
            connection = self._take()
            try:
                with connection.transaction():
                    connection.execute(self.limits.settings)
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
_shared: dict[tuple[str, PostgresLimits], PostgresSession] = {}
_sharing = threading.Lock()
