"""Leases of a database's tables: the same as leases.py, in the database, by its clock and under its locks."""

from __future__ import annotations

import dataclasses

from psycopg.types.json import Jsonb

from beam_etl.loads.holder import Holder
from beam_etl.loads.leases import LeaseTaken
from beam_etl.postgres.session import Connection
from beam_etl.postgres.store import PostgresStore
from beam_etl.postgres.tables import require_token


@dataclasses.dataclass(frozen=True)
class PostgresLeases:
    """The leases of the tables in a store's target schema, as one run of a load claims them.

    A claim and a publish of one table queue at the same lock, so a token that is checked within the transaction that
    publishes stays valid until its COMMIT. Renewing does not queue.
    """

    store: PostgresStore
    holder: Holder

    def claim(self, table: str, seconds: float) -> int | LeaseTaken:
        """The token, held for so many seconds; or who has it. Runs of the same load share one."""

        def work(connection: Connection) -> int | LeaseTaken:
            self.store.lock_table(connection, table)
            rows = connection.execute(
                "SELECT token, holder, extract(epoch FROM expires_at) FROM beam_etl.leases "
                "WHERE target_schema = %s AND table_name = %s AND expires_at > clock_timestamp()",
                self._key(table),
            ).fetchall()
            active = [(token, Holder.from_json(holder), float(expires)) for token, holder, expires in rows]
            active = [entry for entry in active if not entry[1].is_dead_here()]
            for _, holder, expires in active:
                if holder.owner != self.holder.owner:
                    return LeaseTaken(holder, expires)
            connection.execute(
                "DELETE FROM beam_etl.leases WHERE target_schema = %s AND table_name = %s AND NOT run = ANY(%s)",
                [*self._key(table), [holder.run for _, holder, _ in active]],
            )
            row = connection.execute(
                "INSERT INTO beam_etl.leases (target_schema, table_name, run, token, owner, holder, expires_at) "
                "VALUES (%s, %s, %s, coalesce(%s, nextval('beam_etl.lease_tokens')), %s, %s, "
                "clock_timestamp() + make_interval(secs => %s)) "
                "ON CONFLICT (target_schema, table_name, run) DO UPDATE SET expires_at = excluded.expires_at "
                "RETURNING token",
                [
                    *(*self._key(table), self.holder.run, active[0][0] if active else None),
                    *(self.holder.owner, Jsonb(self.holder.to_json()), seconds),
                ],
            ).fetchone()
            assert row is not None
            return int(row[0])

        return self.store.run(work)

    def renew(self, table: str, token: int, seconds: float) -> None:
        """Holds the lease for so many seconds from now on.

        Raises:
          LeaseLostError: another load has claimed it.
        """

        def work(connection: Connection) -> None:
            renewed = connection.execute(
                "UPDATE beam_etl.leases SET expires_at = clock_timestamp() + make_interval(secs => %s) "
                "WHERE target_schema = %s AND table_name = %s AND run = %s AND token = %s",
                [seconds, *self._key(table), self.holder.run, token],
            )
            if not renewed.rowcount:
                require_token(connection, self.store.target_schema, table, token)

        self.store.run(work)

    def release(self, table: str, token: int) -> None:
        """Gives the lease up, as far as this run holds it; idempotent."""
        self.store.run(
            lambda connection: connection.execute(
                "DELETE FROM beam_etl.leases WHERE target_schema = %s AND table_name = %s AND run = %s",
                [*self._key(table), self.holder.run],
            )
        )

    def is_shared(self, table: str, token: int) -> bool:
        """Whether another run holds the lease too."""

        def work(connection: Connection) -> bool:
            rows = connection.execute(
                "SELECT holder FROM beam_etl.leases WHERE target_schema = %s AND table_name = %s AND token = %s "
                "AND run <> %s AND expires_at > clock_timestamp()",
                [*self._key(table), token, self.holder.run],
            ).fetchall()
            return any(not Holder.from_json(holder).is_dead_here() for (holder,) in rows)

        return self.store.run(work)

    def _key(self, table: str) -> list[str]:
        return [self.store.target_schema, table]
