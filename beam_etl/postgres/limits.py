"""What a process may ask of a database: how many connections, and for how long."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class PostgresLimits:
    """Limits of one process in one database.

    Attributes:
      connections: transactions that may run at once.
      retry_seconds: how long a transaction is repeated after failures that may pass.
      lock_seconds: how long a statement waits for a lock at a time; it is then tried again.
      statement_seconds: how long a statement may run, 0 for as long as it takes.
      idle_in_transaction_seconds: after so long without a word from its client the server ends a transaction, so that a
        stuck worker does not hold the ledger's row for ever; 0 for never.
    """

    connections: int = 4
    retry_seconds: float = 120.0
    lock_seconds: float = 30.0
    statement_seconds: float = 0.0
    idle_in_transaction_seconds: float = 600.0

    @property
    def settings(self) -> str:
        """The statement that puts them into force in a transaction, and there alone: a pooler may stand between."""
        return (
            f"SET LOCAL lock_timeout = {_milliseconds(self.lock_seconds)}; "
            f"SET LOCAL statement_timeout = {_milliseconds(self.statement_seconds)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(self.idle_in_transaction_seconds)}"
        )


DEFAULT_LIMITS = PostgresLimits()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
