"""The Parquet sink: stages one file a chunk, then publishes a table's files as one load.

Layout below the output path, besides staging (parquet_staging.py):

    _beam_etl/manifests/<table>/   <sequence>-<load>.json, and <load>.intent while files are moved
    <table>/                       <load>-<chunk_id>.parquet, and _SUCCESS

A table is what its manifest with the highest sequence names. `_SUCCESS` stands in a table's directory only while that
holds exactly the files of one load.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.model import ChunkRecord
from beam_etl.parquet_file import write_parquet
from beam_etl.parquet_staging import ParquetStaging, safe_name, to_json
from beam_etl.schema import TableSchema
from beam_etl.storage import join_path

__all__ = ["ParquetStore", "safe_name"]

SUCCESS = "_SUCCESS"
INTENT_SUFFIX = ".intent"
_MANIFEST_NAME = re.compile(r"(\d{10,})-(.+)\.json")


@dataclasses.dataclass(frozen=True)
class ParquetStore(ParquetStaging):
    """The Parquet files of one load, from staging to the published table.

    Retry story: at least once; exactly once in effect because every attempt writes a file of its own, the first to
    create a chunk's commit record wins, and publishing moves exactly the files that the records name, each step of it
    repeatable.
    """

    def publish(
        self,
        table: str,
        schema: TableSchema,
        records: Sequence[ChunkRecord],
        books: Mapping[str, Any],
        sequence: int | None = None,
    ) -> str:
        """Replaces a table by the files of the records; returns the path of the manifest.

        A crash anywhere is completed by calling again with the same arguments; once the load is published, calling
        again changes nothing, and once a later load is published neither. Until the manifest exists the load is not
        published, but files of the old and the new generation may stand side by side, which the missing `_SUCCESS`
        tells. The caller sees to it that one load at a time publishes a table.

        Args:
          books: the table's books, kept in the manifest; plain JSON values.
          sequence: position among the table's loads, from 1 on, where another sink has fixed it; None for the next.

        Raises:
          ValueError: records of another load, table or schema; a sequence that is not after the current one; or files
            in the table's directory that beam_etl did not write. Nothing has been moved then.
          FileNotFoundError: a staged file is missing or damaged.
        """
        manifests = self._list_manifests(table)
        own = next((manifest for manifest in manifests if manifest.load == safe_name(self.load_id)), None)
        if own is not None and own != manifests[-1]:
            return own.path
        self._refuse_foreign_files(table, {manifest.load for manifest in manifests})
        if own is None:
            own = self._next_manifest(table, manifests, sequence)
            files = self._move_files(table, schema, records)
            manifest = {
                "load_id": self.load_id,
                "table": table,
                "sequence": own.sequence,
                "mode": "replace",
                "schema": schema.to_json(),
                "files": files,
                "books": dict(books),
                "previous": manifests[-1].path.rpartition("/")[2] if manifests else None,
            }
            # Refused only where another attempt of this load was faster: its manifest counts.
            failpoints.hit("publish.before_manifest")
            self._storage.create_if_absent(own.path, to_json(manifest))
            failpoints.hit("publish.after_manifest")
        self._finish(table, self._read_manifest(own))
        return own.path

    def check_target(self, table: str) -> None:
        """Raises ValueError where files that beam_etl did not write stand in a table's directory. Changes nothing."""
        self._refuse_foreign_files(table, {manifest.load for manifest in self._list_manifests(table)})

    def current_manifest(self, table: str) -> dict[str, Any] | None:
        """The manifest with the highest sequence: what the table is."""
        manifests = self._list_manifests(table)
        return self._read_manifest(manifests[-1]) if manifests else None

    def published_load(self, table: str) -> str | None:
        """The load that a table holds whole; None while a publish is unfinished, or when files are missing."""
        manifest = self.current_manifest(table)
        if manifest is None:
            return None
        try:
            success = self._storage.read_bytes(join_path(self._directory(table), SUCCESS))
        except FileNotFoundError:
            return None
        finished = success == _success_bytes(manifest) and not self._missing_files(table, manifest["files"])
        return str(manifest["load_id"]) if finished else None

    def _next_manifest(self, table: str, manifests: Sequence[_ManifestFile], sequence: int | None) -> _ManifestFile:
        last = manifests[-1].sequence if manifests else 0
        if sequence is not None and sequence <= last:
            raise ValueError(
                f"table {table!r}: load {self.load_id} has sequence {sequence}, but load {manifests[-1].load} with "
                f"sequence {last} is already published; start a new load"
            )
        number = last + 1 if sequence is None else sequence
        load = safe_name(self.load_id)
        return _ManifestFile(number, load, join_path(self._manifests(table), f"{number:010d}-{load}.json"))

    def _move_files(self, table: str, schema: TableSchema, records: Sequence[ChunkRecord]) -> list[dict[str, Any]]:
        self._check_records(table, schema, records)
        # From here on the directory may hold files of this load, which the next load must know for ours.
        intent = join_path(self._manifests(table), safe_name(self.load_id) + INTENT_SUFFIX)
        self._storage.write_atomic(intent, b"")
        directory = self._directory(table)
        self._storage.delete_files([join_path(directory, SUCCESS)])
        failpoints.hit("publish.before_moves")
        moves = [self._places(record) for record in records if record.file]
        self._storage.move_files([(staged, published) for staged, published in moves])
        files: list[dict[str, Any]] = [
            {
                "name": self._published_name(record),
                "chunk_id": record.chunk_id,
                "rows": record.rows,
                "bytes": record.file_bytes,
                "checksum": record.checksum,
            }
            for record in records
            if record.file
        ] or [self._write_empty_file(table, schema)]
        missing = self._missing_files(table, files)
        if missing:
            raise FileNotFoundError(
                f"table {table!r}: {missing[0]} is missing or damaged; run load {self.load_id} again"
            )
        return files

    def _check_records(self, table: str, schema: TableSchema, records: Sequence[ChunkRecord]) -> None:
        expected = (self.load_id, table, schema.hash, "parquet")
        for record in records:
            found = (record.load_id, record.table, record.schema_hash, record.sink)
            if found != expected:
                raise ValueError(
                    f"chunk {record.chunk_id} belongs to (load, table, schema, sink) {found}, not {expected}"
                )
        if len({record.chunk_id for record in records}) < len(records):
            raise ValueError(f"table {table!r}: a chunk has several records; a chunk is published once")
        damaged = sorted(record.file for record in self._damaged(table, schema.hash, records))
        if damaged:
            raise FileNotFoundError(f"{damaged[0]} is missing or damaged; run load {self.load_id} again")

    def _write_empty_file(self, table: str, schema: TableSchema) -> dict[str, Any]:
        """A table without rows is one file without rows, so that readers find its columns."""
        name = f"{safe_name(self.load_id)}-empty.parquet"
        data = io.BytesIO()
        written = write_parquet(schema.arrow.empty_table(), data, self.codec, self.codec_level)
        self._storage.write_atomic(join_path(self._directory(table), name), data.getvalue())
        return {"name": name, "chunk_id": "", "rows": 0, "bytes": written.file_bytes, "checksum": written.checksum}

    def _finish(self, table: str, manifest: Mapping[str, Any]) -> None:
        """Deletes what the manifest does not name, then marks the table as whole."""
        missing = self._missing_files(table, manifest["files"])
        if missing:
            raise FileNotFoundError(
                f"table {table!r}: {missing[0]} of the published load {manifest['load_id']} is missing or damaged; "
                "restore it, or publish a new load"
            )
        directory = self._directory(table)
        kept = {file["name"] for file in manifest["files"]} | {SUCCESS}
        leftover = [name for name in self._sizes(directory) if name not in kept and not _is_hidden(name)]
        self._storage.delete_files([join_path(directory, name) for name in leftover])
        self._storage.write_atomic(join_path(directory, SUCCESS), _success_bytes(manifest))
        failpoints.hit("publish.after_success")
        intents = [name for name in self._sizes(self._manifests(table)) if name.endswith(INTENT_SUFFIX)]
        self._storage.delete_files([join_path(self._manifests(table), name) for name in intents])

    def _refuse_foreign_files(self, table: str, loads: set[str]) -> None:
        names = self._sizes(self._manifests(table))
        loads = loads | {name.removesuffix(INTENT_SUFFIX) for name in names if name.endswith(INTENT_SUFFIX)}
        directory = self._directory(table)
        for name in self._sizes(directory):
            of_known_load = any(name[: dash.start()] in loads for dash in re.finditer("-", name))
            if name != SUCCESS and not of_known_load and not _is_hidden(name):
                raise ValueError(
                    f"{join_path(directory, name)} was not written by beam_etl, and replacing table {table!r} would "
                    "mix with it; move it away, or choose another output or table name"
                )

    def _missing_files(self, table: str, files: Sequence[Mapping[str, Any]]) -> list[str]:
        directory = self._directory(table)
        sizes = self._sizes(directory)
        return [join_path(directory, file["name"]) for file in files if sizes.get(file["name"]) != file["bytes"]]

    def _list_manifests(self, table: str) -> list[_ManifestFile]:
        directory = self._manifests(table)
        matches = (_MANIFEST_NAME.fullmatch(name) for name in self._sizes(directory))
        found = (_ManifestFile(int(m[1]), m[2], join_path(directory, m[0])) for m in matches if m)
        return sorted(found, key=lambda manifest: manifest.sequence)

    def _read_manifest(self, manifest: _ManifestFile) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._storage.read_bytes(manifest.path))
        return values


@dataclasses.dataclass(frozen=True)
class _ManifestFile:
    """A manifest by its name: sequence, load (quoted) and path."""

    sequence: int
    load: str
    path: str


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _success_bytes(manifest: Mapping[str, Any]) -> bytes:
    return f"{manifest['load_id']}\n".encode()
