"""What was committed of a table, chunk by chunk: `loads/<load_id>/chunks/<table>.json`, written before it is published.

Commit records go away with the staging; this file stays, so that it can be told for ever which bytes of which file
became which rows of which Parquet file. It is a function of the commit records, so whoever writes it writes the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from beam_etl.loads.plan import load_directory
from beam_etl.model import ChunkRecord
from beam_etl.parquet.staging import safe_name, to_json
from beam_etl.storage import storage_for


def write_chunk_facts(output: str, load_id: str, table: str, records: Sequence[ChunkRecord]) -> None:
    path = _path(output, load_id, table)
    storage_for(path).write_atomic(path, to_json([record.to_json() for record in records]))


def read_chunk_facts(output: str, load_id: str, table: str) -> list[ChunkRecord]:
    """The Parquet sink's commit records of a table that was published; [] before it came to that."""
    path = _path(output, load_id, table)
    storage = storage_for(path)
    if storage.stat(path) is None:
        return []
    return [ChunkRecord.from_json(values) for values in json.loads(storage.read_bytes(path))]


def _path(output: str, load_id: str, table: str) -> str:
    return f"{load_directory(output, load_id)}/chunks/{safe_name(table)}.json"
