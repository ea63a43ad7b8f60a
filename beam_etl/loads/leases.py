"""Leases of a lake's tables: one load at a time prepares and publishes a table.

    _beam_etl/leases/<table>/   <token>.json of whoever claimed it, <token>-<run>.json of each run that shares it

A token is claimed by creating its file where there is none, so each is claimed once, and a later claim has a higher one:
a fencing token (Kleppmann, "How to do distributed locking", 2016). A lease runs out unless it is renewed; clocks of the
machines that share a lake are taken to agree within a few seconds. Where they do not, or a holder wakes up late, the
token is checked again just before anything becomes visible, and a manifest is created once whatever happens.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import Any

from beam_etl.loads.holder import Holder
from beam_etl.loads.table_state import LeaseLostError
from beam_etl.parquet.staging import safe_name, to_json
from beam_etl.storage import Storage, join_path, local_path, storage_for

_NAME = re.compile(r"(\d{10})(?:-.+)?\.json")


@dataclasses.dataclass(frozen=True)
class LeaseTaken:
    """Why a lease could not be claimed: who holds it, and until when at the latest, in seconds since the epoch."""

    holder: Holder
    expires: float


@dataclasses.dataclass(frozen=True)
class LakeLeases:
    """The leases of the lake at `output`, as one run of a load claims them."""

    output: str
    holder: Holder

    def claim(self, table: str, seconds: float) -> int | LeaseTaken:
        """The token, held for so many seconds; or who has it. Runs of the same load share one."""
        while True:
            entries = self._read(table)
            token = max(entries, default=0)
            active = [entry for entry in entries.get(token, []) if _is_active(entry)]
            other = next((entry for entry in active if entry["owner"] != self.holder.owner), None)
            if other is not None:
                return LeaseTaken(Holder.from_json(other), other["expires"])
            if active:
                self._storage.write_atomic(self._path(table, token, self.holder.run), self._entry(seconds))
            elif self._storage.create_if_absent(self._path(table, token + 1), self._entry(seconds)):
                token += 1
                self._storage.delete_files([path for old, path in _list_tokens(self.output, table) if old < token])
            else:
                continue
            if max(self._read(table), default=0) == token:
                return token

    def renew(self, table: str, token: int, seconds: float) -> None:
        """Holds the lease for so many seconds from now on.

        Raises:
          LeaseLostError: another load has claimed it.
        """
        require_token(self.output, table, token)
        self._storage.write_atomic(self._own_path(table, token), self._entry(seconds))

    def release(self, table: str, token: int) -> None:
        """Gives the lease up, as far as this run holds it; idempotent."""
        path = self._own_path(table, token)
        if path == self._path(table, token):
            # The file of the highest token stays, so that the next one is higher.
            if token in self._read(table):
                self._storage.write_atomic(path, self._entry(0.0))
        else:
            self._storage.delete(path)

    def is_shared(self, table: str, token: int) -> bool:
        """Whether another run holds the lease too."""
        entries = self._read(table).get(token, [])
        return any(_is_active(entry) and entry["run"] != self.holder.run for entry in entries)

    @classmethod
    def active_runs(cls, output: str, table: str) -> set[str]:
        """The runs that hold the lease of a table now. Reads only."""
        entries = cls(output, Holder("", "", "", "", 0))._read(table)
        return {entry["run"] for entry in entries.get(max(entries, default=0), []) if _is_active(entry)}

    def _own_path(self, table: str, token: int) -> str:
        claimed = self._path(table, token)
        try:
            claimer = json.loads(self._storage.read_bytes(claimed))["run"]
        except FileNotFoundError:
            claimer = None
        return claimed if claimer == self.holder.run else self._path(table, token, self.holder.run)

    def _read(self, table: str) -> dict[int, list[dict[str, Any]]]:
        """Token -> what its files say."""
        found: dict[int, list[dict[str, Any]]] = {}
        for token, path in _list_tokens(self.output, table):
            try:
                found.setdefault(token, []).append(json.loads(self._storage.read_bytes(path)))
            except FileNotFoundError:
                continue  # given up, or cleared away, since it was listed
        return found

    def _path(self, table: str, token: int, run: str = "") -> str:
        return join_path(_directory(self.output, table), f"{token:010d}{'-' if run else ''}{run}.json")

    def _entry(self, seconds: float) -> bytes:
        return to_json({**self.holder.to_json(), "expires": time.time() + seconds if seconds else 0.0})

    @property
    def _storage(self) -> Storage:
        return storage_for(self.output)


def require_token(output: str, table: str, token: int) -> None:
    """Raises LeaseLostError where a higher token of the table was claimed. Token 0 is guarded by nobody."""
    highest = max((number for number, _ in _list_tokens(output, table)), default=0) if token else 0
    if highest > token:
        raise LeaseLostError(
            f"table {table!r}: another load has taken the lease (token {highest}, this run had {token}); "
            "run the same command again"
        )


def _directory(output: str, table: str) -> str:
    return join_path(local_path(output), "_beam_etl/leases", safe_name(table))


def _list_tokens(output: str, table: str) -> list[tuple[int, str]]:
    files = storage_for(output).list_files(_directory(output, table))
    named = ((_NAME.fullmatch(path.rpartition("/")[2]), path) for path, _ in files)
    return [(int(match[1]), path) for match, path in named if match]


def _is_active(entry: dict[str, Any]) -> bool:
    return bool(entry["expires"] > time.time()) and not Holder.from_json(entry).is_dead_here()
