"""Rows that have a key: what an upsert makes of the records of a load, in the words of every sink.

Of the records of one key the last one wins: by the order of the files in the plan, in a file by the order of its records.
A winner whose column of `delete_when` says so deletes the row of its key, and is not in the table; any other takes the
place of that row, or is a new one.
"""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.compute as pc

# Metadata of Arrow fields, by which sinks that see only the table know its key.
KEY_METADATA = b"beam_etl.key"
DELETE_METADATA = b"beam_etl.delete_when"


@dataclasses.dataclass(frozen=True)
class UpsertCounts:
    """What became of the records that one sink has staged, and of the rows that were there.

    Attributes:
      rows: records that are now rows of the table: inserted + updated.
      superseded: records of whose key a later one came.
      deleted: records that delete the row of their key, whether there was one or not.
      inserted, updated: rows that are new, and rows whose place was taken.
      removed: rows that were deleted.
    """

    rows: int
    superseded: int
    deleted: int
    inserted: int
    updated: int
    removed: int

    @property
    def staged(self) -> int:
        return self.rows + self.superseded + self.deleted


def has_key(schema: pa.Schema) -> bool:
    return any(KEY_METADATA in (field.metadata or {}) for field in schema)


def deleted_rows(table: pa.Table) -> pa.ChunkedArray:
    """boolean, (n_rows,): whether a record deletes the row of its key; values are compared as text."""
    deleted = pa.chunked_array([pa.repeat(False, table.num_rows)])
    for field, column in zip(table.schema, table.columns, strict=True):
        values = (field.metadata or {}).get(DELETE_METADATA)
        if values is not None:
            found = pc.is_in(column.cast(pa.string()), value_set=pa.array(json.loads(values), pa.string()))
            deleted = pc.or_(deleted, found)
    return deleted
