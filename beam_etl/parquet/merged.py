"""An upsert in files: those that hold replaced rows are written anew without them, all others stay as they are.

<output>/_beam_etl/staging/<load>/_merges/   <table>-<schema_hash>.json, and the files that it names

It is made before any sink shows the table, and is a function of the staged files and of the table that the load was
planned on. So whoever comes after a crash finds it made, or makes it again; the first to record it wins.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_etl.loads.keyed import UpsertCounts, deleted_rows
from beam_etl.model import ChunkRecord
from beam_etl.parquet.file import write_parquet
from beam_etl.parquet.merge import KeyFiles, Rows, merge_rows
from beam_etl.parquet.staging import ParquetStaging, safe_name, to_json
from beam_etl.schema import TableSchema
from beam_etl.storage import join_path


@dataclasses.dataclass(frozen=True)
class MergeRecord:
    """What is recorded of an upsert.

    Attributes:
      base: the load that the table had last, "" where there was no table.
      files: manifest entries of all files of the table to be, in order.
      moves: (staged path below the output, final name) of those that are new.
      counts: what became of the records.
    """

    base: str
    files: tuple[Mapping[str, Any], ...]
    moves: tuple[tuple[str, str], ...]
    counts: UpsertCounts

    @classmethod
    def from_json(cls, data: bytes) -> MergeRecord:
        values = json.loads(data)
        moves = tuple((staged, name) for staged, name in values["moves"])
        return cls(values["base"], tuple(values["files"]), moves, UpsertCounts(**values["counts"]))


class Merger:
    """Makes the merge record of one table of one load."""

    def __init__(self, staging: ParquetStaging, table: str, schema: TableSchema) -> None:
        self._staging, self._table, self._schema = staging, table, schema
        self._storage, self._root = staging.storage, staging.root
        self._below = join_path("_beam_etl/staging", safe_name(staging.load_id), "_merges")
        self._name = f"{safe_name(table)}-{schema.hash}"

    def read(self) -> MergeRecord | None:
        try:
            return MergeRecord.from_json(self._storage.read_bytes(self._record_path()))
        except FileNotFoundError:
            return None

    def make(self, records: Sequence[ChunkRecord], base: Mapping[str, Any] | None) -> MergeRecord:
        """The merge of staged chunks with the files of the table's manifest.

        Raises:
          ValueError: the key is of a type that two sinks could compare differently, or the table holds a key twice.
        """
        key = self._schema.key
        doubles = [c.name for c in self._schema.columns if c.key_place and c.type.kind == "double"]
        if doubles:
            raise ValueError(
                f"table {self._table!r}: column {doubles[0]!r} of the key is double precision, which cannot name rows; "
                "declare it as string or decimal in job.yaml"
            )
        records = [record for record in records if record.file]
        held = list(base["files"]) if base else []
        staged = KeyFiles([record.rows for record in records], lambda i: self._staged_keys(records[i], key))
        current = KeyFiles([file["rows"] for file in held], lambda i: self._base_keys(held[i], key))
        merge = merge_rows(self._table, key, staged, current)
        files: list[Mapping[str, Any]] = []
        moves: list[tuple[str, str]] = []
        for file, gone in zip(held, merge.gone, strict=True):
            if not gone.any():
                files.append(file)
            elif not gone.all():
                self._rewrite(join_path(self._staging.directory(self._table), file["name"]), gone, files, moves)
        for record, lost in zip(records, merge.lost, strict=True):
            if not lost.any():
                files.append(self._staging.manifest_entry(record))
                moves.append((record.file, files[-1]["name"]))
            elif not lost.all():
                self._rewrite(self._staging.place_of_record(record), lost, files, moves)
        made = MergeRecord(base["load_id"] if base else "", tuple(files), tuple(moves), merge.counts)
        if not self._storage.create_if_absent(self._record_path(), to_json(dataclasses.asdict(made))):
            first = self.read()
            if first is not None:
                ours = {staged for staged, _ in moves if staged.startswith(self._below)}
                self._storage.delete_files([join_path(self._root, path) for path in ours - {s for s, _ in first.moves}])
                return first
        return made

    def _staged_keys(self, record: ChunkRecord, key: Sequence[str]) -> pa.Table:
        names = [*key, *(c.name for c in self._schema.columns if c.delete_values and c.name not in key)]
        table = self._read(self._staging.place_of_record(record), names)
        # The metadata by which deletes are known belongs to the schema, whatever a file has kept of it.
        table = table.cast(pa.schema([self._schema.arrow.field(name) for name in names]))
        return table.select(list(key)).append_column("deleted", deleted_rows(table))

    def _base_keys(self, file: Mapping[str, Any], key: Sequence[str]) -> pa.Table:
        path = join_path(self._staging.directory(self._table), file["name"])
        with self._storage.open_read(path) as stream:
            reader = pq.ParquetFile(stream)
            if not set(key) <= set(
                reader.schema_arrow.names
            ):  # from before the table had the column: NULL, never equal
                rows = reader.metadata.num_rows
                return pa.table({name: pa.nulls(rows, self._schema.arrow.field(name).type) for name in key})
            return reader.read(columns=list(key)).select(list(key))

    def _read(self, path: str, names: list[str] | None = None) -> pa.Table:
        with self._storage.open_read(path) as stream:
            table = pq.ParquetFile(stream).read(columns=names)
        return table if names is None else table.select(names)

    def _rewrite(
        self, source: str, without: Rows, files: list[Mapping[str, Any]], moves: list[tuple[str, str]]
    ) -> None:
        table = self._read(source).filter(pa.array(~without))
        number = len(moves)
        staged = join_path(self._below, f"{self._name}-{number:06d}-{uuid.uuid4().hex[:8]}.parquet")
        with self._storage.open_new(join_path(self._root, staged)) as stream:
            written = write_parquet(table, stream, self._staging.codec, self._staging.codec_level)
        name = f"{safe_name(self._staging.load_id)}-merged-{number:06d}.parquet"
        files.append(
            {
                "name": name,
                "chunk_id": "",
                "rows": table.num_rows,
                "bytes": written.file_bytes,
                "checksum": written.checksum,
            }
        )
        moves.append((staged, name))

    def _record_path(self) -> str:
        return join_path(self._root, self._below, f"{self._name}.json")
