"""Which rows win in an upsert, found in bounded memory from the columns of the key alone.

Keys are compared by value, never by their hash. A load too large for that at once is worked through in several passes,
each for the keys of one bucket; what is kept all the time is one byte for each row of the load and of the table.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_etl.loads.keyed import UpsertCounts

# Keys of the load that are held at once.
BUCKET_ROWS = 1 << 21

Rows = npt.NDArray[np.bool_]
ReadKeys = Callable[[int], pa.Table]


@dataclasses.dataclass(frozen=True)
class KeyFiles:
    """Files by the keys of their rows, in the order in which rows win.

    Attributes:
      rows: rows of each file.
      read: number of a file -> its key columns, and for staged files `deleted` after them, in the order of its rows.
    """

    rows: Sequence[int]
    read: ReadKeys

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """int64, (n_files + 1,): how many rows stand before each file."""
        return np.concatenate([[0], np.cumsum(np.asarray(self.rows, np.int64))]).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Merge:
    """What an upsert makes of rows: which staged ones stay out, which ones of the table go; one array a file."""

    lost: list[Rows]
    gone: list[Rows]
    counts: UpsertCounts


def merge_rows(table: str, key: Sequence[str], staged: KeyFiles, base: KeyFiles) -> Merge:
    """Finds the winners.

    Raises:
      ValueError: rows of the table have the same key, so nobody can say which of them a record replaces.
    """
    starts, base_starts = staged.starts, base.starts
    names = _names(key)
    lost, gone = np.ones(starts[-1], np.bool_), np.zeros(base_starts[-1], np.bool_)
    buckets = max(1, -(-int(starts[-1]) // BUCKET_ROWS))
    deleted = updated = removed = winners = 0
    for bucket in range(buckets):
        won = _winners(names, staged, starts, bucket, buckets)
        winners += won.num_rows
        deleted += pc.sum(won["deleted"]).as_py() or 0
        lost[won.filter(pc.invert(won["deleted"]))["place"].to_numpy()] = False
        found: list[npt.NDArray[np.int64]] = []
        for keys in _batches(names, base, base_starts, bucket, buckets) if won.num_rows else ():
            matched = keys.rename_columns([*names, "base_place"]).join(won, keys=names, join_type="inner")
            gone[matched["base_place"].to_numpy()] = True
            found.append(matched["place"].to_numpy())
            removed += pc.sum(matched["deleted"]).as_py() or 0
        matches = np.concatenate(found) if found else np.empty(0, np.int64)
        if len(np.unique(matches)) < len(matches):
            raise ValueError(
                f"table {table!r} holds several rows with the same key ({', '.join(key)}), so an upsert cannot tell which of "
                "them to replace; load all its files with mode replace, or choose another key"
            )
        updated += len(matches)
    updated -= removed
    rows = winners - deleted
    counts = UpsertCounts(rows, int(starts[-1]) - winners, deleted, rows - updated, updated, removed)
    return Merge(_by_file(lost, starts), _by_file(gone, base_starts), counts)


def _names(key: Sequence[str]) -> list[str]:
    """What its columns are called here, where other columns stand beside them: theirs may be any names."""
    return [f"key_{number}" for number in range(len(key))]


def _winners(
    key: Sequence[str], staged: KeyFiles, starts: npt.NDArray[np.int64], bucket: int, buckets: int
) -> pa.Table:
    """One row a key: the key, `place` of its last record among all staged rows, and whether that one is `deleted`."""
    parts = list(_read(key, staged, starts, bucket, buckets))
    if not parts:
        return pa.table(
            {**{name: [] for name in key}, "deleted": pa.array([], pa.bool_()), "place": pa.array([], pa.int64())}
        )
    records = pa.concat_tables(parts)
    last = records.group_by(list(key)).aggregate([("place", "max")])["place_max"]
    return records.filter(pc.is_in(records["place"], value_set=last.combine_chunks()))


def _batches(
    key: Sequence[str], files: KeyFiles, starts: npt.NDArray[np.int64], bucket: int, buckets: int
) -> Iterator[pa.Table]:
    """Keys of several files together, because every join builds an index of all winners."""
    pending: list[pa.Table] = []
    for part in _read(key, files, starts, bucket, buckets):
        pending.append(part)
        if sum(table.num_rows for table in pending) >= BUCKET_ROWS:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)


def _read(
    key: Sequence[str], files: KeyFiles, starts: npt.NDArray[np.int64], bucket: int, buckets: int
) -> Iterator[pa.Table]:
    for number, start in enumerate(starts[:-1]):
        table = files.read(number)
        table = table.rename_columns([*key, *table.column_names[len(key) :]])
        table = table.append_column("place", pa.array(np.arange(start, start + table.num_rows)))
        if buckets > 1:
            table = table.filter(pa.array(_hashes(table.select(list(key))) % np.uint64(buckets) == bucket))
        if table.num_rows:
            yield table


def _hashes(keys: pa.Table) -> npt.NDArray[np.uint64]:
    hashes = np.full(keys.num_rows, 0xCBF29CE484222325, np.uint64)
    for column in keys.columns:
        texts = pa.chunked_array(pc.fill_null(column.cast(pa.large_string()), "")).combine_chunks()
        texts = texts if isinstance(texts, pa.Array) else pa.concat_arrays(texts.chunks)
        _, ends, data = texts.buffers()
        offsets = np.frombuffer(ends, np.int64, texts.offset + len(texts) + 1)[texts.offset :]
        _mix(hashes, offsets, np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8))
    return hashes


@numba.njit(nogil=True, cache=True)
def _mix(hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> None:
    """FNV-1a of every text into its hash: http://www.isthe.com/chongo/tech/comp/fnv/"""
    for row in range(len(hashes)):
        value = hashes[row]
        for byte in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(data[byte])) * np.uint64(0x100000001B3)
        hashes[row] = (value ^ (value >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _by_file(rows: Rows, starts: npt.NDArray[np.int64]) -> list[Rows]:
    return [rows[start:end] for start, end in itertools.pairwise(starts)]
