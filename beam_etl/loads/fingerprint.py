"""A fingerprint of a table's contents that does not depend on the order of its rows, gathered batch by batch.

Every value becomes 64 bits that depend on its column; a row is the mixture of its values. Sums modulo 2^64 over all rows
are kept of each column, of the rows, and of the rows without each column: the first names a column in which a value is
another, the second notices values that have changed places between rows, the third names the column in which they did.
It finds damage and mistakes, not forgery. Mixing: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014; bytes: FNV-1a, RFC 9923.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

Words = npt.NDArray[np.uint64]

_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_NULL = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass
class Fingerprint:
    """What is known of a table after some of its rows.

    Attributes:
      schema: of the rows; values of other types, or under other names, have other fingerprints.
      rows: how many.
      row_sum: of all rows.
      values: uint64, (n_columns,): of each column's values.
      without: uint64, (n_columns,): of the rows as they are without each column.
    """

    schema: pa.Schema
    rows: int = 0
    row_sum: int = 0
    values: Words = dataclasses.field(init=False)
    without: Words = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.values = np.zeros(len(self.schema), dtype=np.uint64)
        self.without = np.zeros(len(self.schema), dtype=np.uint64)
        self._seeds = [_seed(name) for name in self.schema.names]

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds rows; the batch has the columns of the schema, in its order."""
        if not batch.num_rows:
            return
        hashes = [_hash_column(column, seed) for column, seed in zip(batch.columns, self._seeds, strict=True)]
        together = np.zeros(batch.num_rows, dtype=np.uint64)
        for column in hashes:
            together += column
        self.rows += batch.num_rows
        self.row_sum = (self.row_sum + int(_mix(together).sum(dtype=np.uint64))) % (1 << 64)
        self.values += np.array([column.sum(dtype=np.uint64) for column in hashes])
        self.without += np.array([_mix(together - column).sum(dtype=np.uint64) for column in hashes])

    def equals(self, other: Fingerprint) -> bool:
        return (self.rows, self.row_sum) == (other.rows, other.row_sum) and bool((self.values == other.values).all())

    def changed_columns(self, other: Fingerprint) -> list[str]:
        """Columns whose values are not the same, whatever rows they are in."""
        return [self.schema.names[position] for position in np.flatnonzero(self.values != other.values)]

    def moved_columns(self, other: Fingerprint) -> list[str]:
        """Columns without which the rows would be the same."""
        return [self.schema.names[position] for position in np.flatnonzero(self.without == other.without)]


def _seed(name: str) -> np.uint64:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    seed: np.uint64 = np.frombuffer(digest, dtype=np.uint64)[0]
    return seed


def _hash_column(column: pa.Array, seed: np.uint64) -> Words:
    """One word a value: uint64, (len(column),)."""
    words = _hash_values(column)
    if column.null_count:
        words = np.where(np.asarray(pc.is_null(column)), _NULL, words)
    return _mix(words ^ seed)


def _hash_values(column: pa.Array) -> Words:
    """As _hash_column, of one type's values alone; what stands for NULL is without meaning."""
    kind = column.type
    if pa.types.is_string(kind):
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        hashes: Words = _hash_bytes(ends, np.frombuffer(data or b"", dtype=np.uint8))
        return hashes
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int8()).cast(pa.int64()), pa.int64()
    elif pa.types.is_date32(kind):
        column, kind = column.view(pa.int32()).cast(pa.int64()), pa.int64()
    width = kind.bit_width // 64
    stored = np.frombuffer(column.buffers()[1], dtype=np.uint64)
    words = stored[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)
    if pa.types.is_float64(kind):  # a NaN is a NaN, whatever its bits
        words = np.where(np.isnan(words.view(np.float64)), np.float64(np.nan).view(np.uint64), words)
    hashes = _mix(words[:, 0])
    for position in range(1, width):
        hashes = _mix(hashes ^ words[:, position])
    return hashes


def _mix(words: Words) -> Words:
    """The finalizer of SplitMix64: every bit of the result depends on every bit given."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


@njit(nogil=True, cache=True)
def _hash_bytes(ends, data):  # type: ignore[no-untyped-def]
    hashes = np.empty(len(ends) - 1, dtype=np.uint64)
    for row in range(len(hashes)):
        value = np.uint64(_FNV_OFFSET)
        for position in range(ends[row], ends[row + 1]):
            value = (value ^ np.uint64(data[position])) * np.uint64(_FNV_PRIME)
        hashes[row] = value
    return hashes
