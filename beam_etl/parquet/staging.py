"""Staging of the Parquet sink: one file a chunk, and a durable commit record that names it.

<output>/_beam_etl/staging/<load>/<table>/<schema_hash>/   <chunk_id>-<8 hex>.parquet, and its record <chunk_id>.json
<output>/<table>/                                          <load>-<chunk_id>.parquet, once published
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from beam_etl import failpoints
from beam_etl.model import ChunkRecord, ConvertedChunk
from beam_etl.parquet.file import WrittenFile, write_parquet
from beam_etl.storage import Storage, join_path, local_path, retry_transient, storage_for

# Reading many small files waits more than it works.
IO_THREADS = 8

# File systems allow 255 bytes in a name; the rest is for sequence, chunk id and suffix.
MAX_NAME_BYTES = 160

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class ParquetStaging:
    """The staged Parquet files of one load. Cheap to make, picklable, and usable from any thread.

    Attributes:
      output: directory of the lake, local or gs://.
      load_id: names the load.
      codec, codec_level: compression of the files, as write_parquet takes them.
    """

    output: str
    load_id: str
    codec: str = "zstd"
    codec_level: int = 1

    def commit_chunk(self, converted: ConvertedChunk, table: pa.Table) -> ChunkRecord:
        """Writes a chunk's file durably, then its commit record; returns the record that counts.

        Called again, or by several workers at once, all get the record of whoever created it first, and the files of
        the others are deleted. A crash before the record leaves an unnamed file, which drop_staging removes. A chunk
        without rows has a record and no file.
        """
        chunk = converted.chunk
        directory = self.staging_directory(chunk.table, converted.schema_hash)
        record_path = join_path(directory, f"{chunk.chunk_id}.json")
        while True:
            name, written = self._write_chunk(directory, chunk.chunk_id, table)
            record = ChunkRecord(
                load_id=self.load_id,
                table=chunk.table,
                schema_hash=converted.schema_hash,
                chunk_id=chunk.chunk_id,
                sink="parquet",
                spans=converted.spans,
                rows=table.num_rows,
                rejects=converted.rejects,
                file=name and join_path(self._staging_below_root(chunk.table, converted.schema_hash), name),
                file_bytes=written.file_bytes,
                checksum=written.checksum,
                rejects_file=converted.rejects_file,
            )
            failpoints.hit("parquet.file_closed")
            # When this raises, the record may exist all the same: the file must stay.
            if self._storage.create_if_absent(record_path, to_json(record.to_json())):
                failpoints.hit("parquet.recorded")
                return record
            if name:
                self._storage.delete_files([join_path(directory, name)])
            winner = self.read_record(chunk.table, converted.schema_hash, chunk.chunk_id)
            if winner is not None:
                return winner

    def _write_chunk(self, directory: str, chunk_id: str, table: pa.Table) -> tuple[str, WrittenFile]:
        return self._write_file(directory, chunk_id, table) if table.num_rows else ("", WrittenFile(0, ""))

    # The table is an argument: a retried closure over it would be a reference cycle, and keep it until the next collection.
    @retry_transient
    def _write_file(self, directory: str, chunk_id: str, table: pa.Table) -> tuple[str, WrittenFile]:
        name = f"{chunk_id}-{uuid.uuid4().hex[:8]}.parquet"
        with self._storage.open_new(join_path(directory, name)) as file:
            written = write_parquet(table, file, self.codec, self.codec_level)
        return name, written

    def read_record(self, table: str, schema_hash: str, chunk_id: str) -> ChunkRecord | None:
        """The commit record of a chunk, if it has one whose file is whole.

        A record whose file is missing or of another size is removed, so that the chunk is converted again.
        """
        path = join_path(self.staging_directory(table, schema_hash), f"{chunk_id}.json")
        record = self._load_record(path)
        if record is None or self._is_whole(record):
            return record
        self._storage.delete_files([path])
        return None

    def read_records(self, table: str, schema_hash: str) -> list[ChunkRecord]:
        """All commit records of a table in one schema, by chunk id; damaged ones are treated as read_record does."""
        directory = self.staging_directory(table, schema_hash)
        records = self.load_records(table, schema_hash)
        damaged = self._damaged(table, schema_hash, records)
        if damaged:
            self._storage.delete_files([join_path(directory, f"{record.chunk_id}.json") for record in damaged])
        return sorted((record for record in records if record not in damaged), key=lambda record: record.chunk_id)

    def load_records(self, table: str, schema_hash: str) -> list[ChunkRecord]:
        """All commit records of a table in one schema, damaged ones among them. Changes nothing."""
        directory = self.staging_directory(table, schema_hash)
        names = [name for name in self._sizes(directory) if name.endswith(".json")]
        paths = [join_path(directory, name) for name in names]
        return [record for record in in_threads(self._load_record, paths) if record is not None]

    def count_rows(self, records: Sequence[ChunkRecord]) -> dict[str, int]:
        """Rows by chunk id, counted again from the footers of the files; a chunk whose file is missing is left out.

        Raises:
          pyarrow.ArrowInvalid: a file is not Parquet.
        """
        counts = zip(records, in_threads(self._count_rows, records), strict=True)
        return {record.chunk_id: rows for record, rows in counts if rows is not None}

    def drop_staging(self) -> None:
        """Deletes everything that this load staged; what it published stays."""
        self._storage.delete_tree(join_path(self._root, "_beam_etl/staging", safe_name(self.load_id)))

    def _load_record(self, path: str) -> ChunkRecord | None:
        try:
            return ChunkRecord.from_json(json.loads(self._storage.read_bytes(path)))
        except FileNotFoundError:
            return None

    def _places(self, record: ChunkRecord) -> tuple[str, ...]:
        """Where a record's file may be: staged, or moved by a publish that may not be finished."""
        if not record.file:
            return ()
        return join_path(self._root, record.file), join_path(
            self._directory(record.table), self._published_name(record)
        )

    def _is_whole(self, record: ChunkRecord) -> bool:
        stats = (self._storage.stat(place) for place in self._places(record))
        return not record.file or any(stat is not None and stat.size_bytes == record.file_bytes for stat in stats)

    def _damaged(self, table: str, schema_hash: str, records: Sequence[ChunkRecord]) -> set[ChunkRecord]:
        """The records whose file is missing or of another size, by one listing where all is well."""
        sizes = self._sizes(self.staging_directory(table, schema_hash))
        suspects = [record for record in records if record.file and sizes.get(_file_name(record)) != record.file_bytes]
        return {
            record for record, whole in zip(suspects, in_threads(self._is_whole, suspects), strict=True) if not whole
        }

    def _count_rows(self, record: ChunkRecord) -> int | None:
        if not record.file:
            return 0
        for place in self._places(record):
            try:
                with self._storage.open_read(place) as file:
                    return int(pq.read_metadata(file).num_rows)
            except FileNotFoundError:
                continue
        return None

    @property
    def _storage(self) -> Storage:
        return storage_for(self.output)

    @property
    def _root(self) -> str:
        return local_path(self.output)

    def staging_directory(self, table: str, schema_hash: str) -> str:
        return join_path(self._root, self._staging_below_root(table, schema_hash))

    def _staging_below_root(self, table: str, schema_hash: str) -> str:
        return join_path("_beam_etl/staging", safe_name(self.load_id), safe_name(table), schema_hash)

    def _manifests(self, table: str) -> str:
        return join_path(self._root, "_beam_etl/manifests", safe_name(table))

    def _directory(self, table: str) -> str:
        return join_path(self._root, safe_name(table))

    def _published_name(self, record: ChunkRecord) -> str:
        return f"{safe_name(self.load_id)}-{record.chunk_id}.parquet"

    def _sizes(self, directory: str) -> dict[str, int]:
        """Size of every file below a directory, by its path from there, sorted."""
        start = len(directory) + 1
        return {path[start:]: stat.size_bytes for path, stat in self._storage.list_files(directory)}


def safe_name(name: str) -> str:
    """A table's name or load's id as one name in a path, on every storage and for every reader of directories.

    Letters, digits and `-._~` stay, other bytes of its UTF-8 become %XX; so does a leading dot or underscore, which
    would hide the directory from readers or meet `_beam_etl`. A long name is cut and ends in a hash of the whole.

    Raises:
      ValueError: the name is empty.
    """
    if not name:
        raise ValueError("a table name or load_id is empty; give it at least one character")
    quoted = quote(name, safe="", errors="surrogateescape")
    if quoted[0] in "._":
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > MAX_NAME_BYTES:
        digest = hashlib.sha256(quoted.encode()).hexdigest()[:16]
        quoted = f"{quoted[: MAX_NAME_BYTES - 17]}-{digest}"
    return quoted


def to_json(values: object) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def in_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    with ThreadPoolExecutor(IO_THREADS) as pool:
        return list(pool.map(function, items))


def _file_name(record: ChunkRecord) -> str:
    return record.file.rpartition("/")[2]
