"""Claims the leases of a load's tables in every sink, and keeps them while the load runs."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import tenacity

from beam_etl.loads.holder import Holder
from beam_etl.loads.leases import LakeLeases, LeaseTaken
from beam_etl.loads.table_state import LeaseLostError
from beam_etl.postgres.leases import PostgresLeases
from beam_etl.sinks import SinkSettings, TableTokens

logger = logging.getLogger(__name__)

# A holder that died is outlived by its lease for so long at most; on the same machine it is known to be dead at once.
LEASE_SECONDS = 30.0
WAIT_SECONDS = 45.0


class LeaseKeeper:
    """The leases of one run of a load, renewed by a thread of its own until it is closed."""

    def __init__(self, owner: str, sinks: SinkSettings) -> None:
        self.holder = holder = Holder.this_process(owner)
        self._store = sinks.open_postgres()
        self._lake = LakeLeases(sinks.output, holder)
        self._postgres = PostgresLeases(self._store, holder) if self._store else None
        self._tokens: dict[str, TableTokens] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="leases", daemon=True)

    @property
    def tokens(self) -> tuple[TableTokens, ...]:
        return tuple(self._tokens.values())

    def claim(self, tables: Sequence[str], wait_seconds: float = WAIT_SECONDS) -> None:
        """Claims the leases of all tables, always in the same order, so that no two loads wait for each other.

        Raises:
          ValueError: another load has one of them, and keeps it; says who, and until when.
        """
        self._thread.start()
        deadline = time.monotonic() + wait_seconds
        for table in sorted(tables):
            lake = _claim(self._lake, table, deadline)
            self._tokens[table] = TableTokens(table, lake)
            if self._postgres is not None:
                self._tokens[table] = TableTokens(table, lake, _claim(self._postgres, table, deadline))

    def is_shared(self) -> bool:
        """Whether another run of the same load holds any of the leases too."""
        return any(
            self._lake.is_shared(own.table, own.lake)
            or (self._postgres is not None and self._postgres.is_shared(own.table, own.postgres))
            for own in self.tokens
        )

    def close(self) -> None:
        """Gives the leases up. Another load may take the tables from now on."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            for own in self.tokens:
                self._lake.release(own.table, own.lake)
                if self._postgres is not None:
                    self._postgres.release(own.table, own.postgres)
        finally:
            if self._store is not None:
                self._store.close()

    def _renew_for_ever(self) -> None:
        while not self._closing.wait(LEASE_SECONDS / 3):
            for own in self.tokens:
                try:
                    self._lake.renew(own.table, own.lake, LEASE_SECONDS)
                    if self._postgres is not None and own.postgres:
                        self._postgres.renew(own.table, own.postgres, LEASE_SECONDS)
                except LeaseLostError as error:
                    logger.warning("%s", error)
                except Exception as error:  # noqa: BLE001
                    # Whatever it was, the next round makes up for it; if none does, the token keeps this run from publishing.
                    logger.warning("the lease of table %s could not be renewed yet: %s", own.table, error)


@contextlib.contextmanager
def hold_leases(
    owner: str, tables: Sequence[str], sinks: SinkSettings, wait_seconds: float = WAIT_SECONDS
) -> Iterator[LeaseKeeper]:
    """The leases of the tables, for as long as the block runs. Raises ValueError as LeaseKeeper.claim."""
    keeper = LeaseKeeper(owner, sinks)
    try:
        keeper.claim(tables, wait_seconds)
        yield keeper
    finally:
        keeper.close()


def _claim(leases: LakeLeases | PostgresLeases, table: str, deadline: float) -> int:
    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda claimed: isinstance(claimed, LeaseTaken)),
        wait=tenacity.wait_random(0.2, 1.0),
        stop=lambda _: time.monotonic() > deadline,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    claimed: int | LeaseTaken = waiting(leases.claim, table, LEASE_SECONDS)
    if isinstance(claimed, LeaseTaken):
        until = datetime.datetime.fromtimestamp(claimed.expires, datetime.timezone.utc).isoformat(timespec="seconds")
        raise ValueError(
            f"table {table!r} is being loaded by {claimed.holder}, which holds its lease until {until} and may renew it; "
            "wait for that load to end, or end it"
        )
    return claimed
