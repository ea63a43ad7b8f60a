"""The Parquet sink: stages one file a chunk, then publishes a table's files as one load.

Layout below the output path, besides staging (parquet_staging.py):

    _beam_etl/manifests/<table>/   <sequence>.json, and <load>.load for each load that ever moved files: its lease's token
    <table>/                       <load>-<chunk_id>.parquet, and _SUCCESS

A table is what its manifest with the highest sequence names: the files of the last load that replaced it, and of all
that were appended since. A manifest is created only where there is none of its sequence, so two loads that saw the same
table cannot both be published. `_SUCCESS` stands in a table's directory only while that holds exactly what the manifest
names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from beam_etl import failpoints
from beam_etl.loads.keyed import UpsertCounts
from beam_etl.loads.leases import require_token
from beam_etl.loads.table_state import ADDING, LeaseLostError, PublishTerms, TableChangedError, TableState, source_entry
from beam_etl.model import ChunkRecord
from beam_etl.parquet.file import write_parquet
from beam_etl.parquet.merged import Merger, MergeRecord
from beam_etl.parquet.staging import ParquetStaging, safe_name, to_json
from beam_etl.schema import TableSchema
from beam_etl.storage import join_path

__all__ = ["ParquetStore", "safe_name"]

SUCCESS = "_SUCCESS"
MARKER_SUFFIX = ".load"
REPLACE = PublishTerms()
_MANIFEST_NAME = re.compile(r"(\d{10,})\.json")


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
        terms: PublishTerms = REPLACE,
        later_loads: Collection[str] = (),
    ) -> str:
        """Makes the files of the records a table, or part of it; returns the path of the manifest.

        A crash anywhere is completed by calling again with the same arguments; once the load is published, calling
        again changes nothing, and once a later load is published neither. Until the manifest exists the load is not
        published, but files of several loads may stand side by side, which the missing `_SUCCESS` tells. Of two loads
        that publish a table at once, one creates the next manifest and the other is refused.

        Args:
          books: the load's books of the table, kept in the manifest; plain JSON values.
          later_loads: what PostgreSQL has published into the table after this load, where it is a sink.

        Raises:
          ValueError: records of another load, table or schema; the table holds a later load already; or files in the
            table's directory that beam_etl did not write. Nothing has been moved then.
          TableChangedError: the table is not what the terms say; what was moved is back in staging.
          LeaseLostError: another load has the table now; likewise.
          FileNotFoundError: a file is missing or damaged.
        """
        manifests = self._list_manifests(table)
        own = self._find_own(table, manifests)
        if own is not None and own[0] != manifests[-1]:
            return own[0].path
        self._refuse_foreign_files(table)
        if own is None:
            current = self._present_manifest(table, manifests)
            self._check_terms(table, terms, current, later_loads)
            kept = current if terms.mode in ADDING else None
            if kept is not None:
                self._require_files(table, kept)
            self._check_records(table, schema, records)
            merged = self._merged(table, schema, records, kept) if terms.mode == "upsert" else None
            moves = self._moves(table, records, merged)
            files = self._move_files(table, schema, records, kept, terms.token, moves, merged)
            values = self._manifest_values(table, schema, files, books, terms, kept)
            values["sequence"] = manifests[-1].sequence + 1 if manifests else 1
            values["previous"] = manifests[-1].path.rpartition("/")[2] if manifests else None
            own = self._create_manifest(table, values, moves, terms.token)
        self._finish(table, own[1])
        return own[0].path

    def merge(
        self, table: str, schema: TableSchema, records: Sequence[ChunkRecord], terms: PublishTerms
    ) -> UpsertCounts:
        """Makes ready an upsert of the records into the table; says what it will do. Shows nothing; may be repeated.

        Raises:
          ValueError: the key cannot name rows, or the table holds one twice.
          TableChangedError: the table is not what the load was planned on.
          FileNotFoundError: a file is missing or damaged.
        """
        current = self._present_manifest(table, self._list_manifests(table))
        terms.check_base(table, current["load_id"] if current else "", current is not None)
        if current is not None:
            self._require_files(table, current)
        self._check_records(table, schema, records)
        return self._merged(table, schema, records, current).counts

    def _merged(
        self, table: str, schema: TableSchema, records: Sequence[ChunkRecord], current: Mapping[str, Any] | None
    ) -> MergeRecord:
        merger = Merger(self, table, schema)
        made = merger.read()
        base = current["load_id"] if current else ""
        if made is not None and made.base != base:
            raise TableChangedError(
                f"table {table!r} changed after load {self.load_id} was merged with it; run the same command again"
            )
        return made or merger.make(records, current)

    def _moves(self, table: str, records: Sequence[ChunkRecord], merged: MergeRecord | None) -> list[tuple[str, str]]:
        """(staged, published) of the files that the load brings into the table."""
        if merged is None:
            return [(staged, published) for staged, published in (self._places(r) for r in records if r.file)]
        return [
            (join_path(self._root, staged), join_path(self._directory(table), name)) for staged, name in merged.moves
        ]

    def check_target(self, table: str) -> None:
        """Raises ValueError where files that beam_etl did not write stand in a table's directory. Changes nothing."""
        self._refuse_foreign_files(table)

    def complete(self, table: str) -> None:
        """Ends what a crash has left of the last publish of a table, whichever load's it was.

        Raises:
          FileNotFoundError: a file of the table is missing or damaged.
        """
        manifest = self._present_manifest(table, self._list_manifests(table))
        if manifest is not None and self._read_success(table) != _success_bytes(manifest):
            self._finish(table, manifest)

    def current_manifest(self, table: str) -> dict[str, Any] | None:
        """The manifest with the highest sequence: what the table is."""
        manifests = self._list_manifests(table)
        return self._read_manifest(manifests[-1]) if manifests else None

    def published_manifest(self, table: str) -> str:
        """Path of the manifest by which this load was published, "" where it never was; even if replaced since."""
        own = self._find_own(table, self._list_manifests(table))
        return own[0].path if own else ""

    def published_load(self, table: str) -> str | None:
        """The load that was published last, if its table is whole; None while a publish is unfinished."""
        state = self.state(table)
        return state.last_load if state.loads and state.whole and state.finished else None

    def state(self, table: str) -> TableState:
        """What the table holds. Reads only."""
        manifest = self._present_manifest(table, self._list_manifests(table))
        if manifest is None:
            markers = self._markers(table)
            names = self._sizes(self._directory(table))
            return TableState(exists=any(not _loads_of(name, markers) and not _is_hidden(name) for name in names))
        return TableState(
            loads=tuple(manifest["loads"]),
            files={source["key"]: source["version"] for source in manifest["sources"]},
            exists=True,
            whole=not self._missing_files(table, manifest["files"]),
            finished=self._read_success(table) == _success_bytes(manifest),
            schema=TableSchema.from_json(manifest["schema"]),
        )

    def _present_manifest(self, table: str, manifests: Sequence[_ManifestFile]) -> dict[str, Any] | None:
        """The current manifest; None where all files it names were removed: then there is no table any more."""
        if not manifests:
            return None
        manifest = self._read_manifest(manifests[-1])
        names = self._sizes(self._directory(table)).keys()
        return manifest if any(file["name"] in names for file in manifest["files"]) else None

    def _find_own(self, table: str, manifests: Sequence[_ManifestFile]) -> tuple[_ManifestFile, dict[str, Any]] | None:
        """The manifest by which this load was published, which every publish marks before it begins."""
        if self._storage.stat(self._marker(table, safe_name(self.load_id))) is None:
            return None
        for file in reversed(manifests):
            manifest = self._read_manifest(file)
            if manifest["load_id"] == self.load_id:
                return file, manifest
        return None

    def _check_terms(
        self, table: str, terms: PublishTerms, current: Mapping[str, Any] | None, later_loads: Collection[str]
    ) -> None:
        terms.check_base(table, current["load_id"] if current else "", current is not None)
        overtaken = set(current["loads"] if current else ()).intersection(later_loads)
        if overtaken:
            raise ValueError(
                f"table {table!r} holds load {min(overtaken)}, which PostgreSQL has published after load {self.load_id}; "
                "start a new load"
            )
        require_token(self.output, table, terms.token)

    def _move_files(
        self,
        table: str,
        schema: TableSchema,
        records: Sequence[ChunkRecord],
        kept: Mapping[str, Any] | None,
        token: int,
        moves: Sequence[tuple[str, str]],
        merged: MergeRecord | None,
    ) -> list[dict[str, Any]]:
        """Moves staged files to their final names; returns the entries of all files of the table to be."""
        # From here on the directory may hold files of this load, which the next load must know for ours.
        self._storage.write_atomic(self._marker(table, safe_name(self.load_id)), str(token).encode())
        self._storage.delete_files([join_path(self._directory(table), SUCCESS)])
        failpoints.hit("publish.before_moves")
        if moves:
            self._storage.move_files(moves)
        if merged is not None:
            files = [dict(file) for file in merged.files]
            return files or [self._write_empty_file(table, schema)]
        files = [self.manifest_entry(record) for record in records if record.file]
        # A table without rows, or new columns without rows, still need a file in which readers find the columns.
        if not files and (kept is None or TableSchema.from_json(kept["schema"]).names != schema.names):
            files = [self._write_empty_file(table, schema)]
        return [*(kept["files"] if kept else []), *files]

    def _manifest_values(
        self,
        table: str,
        schema: TableSchema,
        files: Sequence[Mapping[str, Any]],
        books: Mapping[str, Any],
        terms: PublishTerms,
        kept: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        sources = [source_entry(file, self.load_id) for file in terms.sources]
        return {
            "load_id": self.load_id,
            "table": table,
            "mode": terms.mode,
            "token": terms.token,
            "schema": schema.to_json(),
            "loads": [*(kept["loads"] if kept else []), self.load_id],
            "files": list(files),
            "sources": [*(kept["sources"] if kept else []), *sources],
            "books": dict(books),
        }

    def _create_manifest(
        self, table: str, values: Mapping[str, Any], moves: Sequence[tuple[str, str]], token: int
    ) -> tuple[_ManifestFile, dict[str, Any]]:
        """The commit: whoever creates the next manifest has published. A loser takes its files back."""
        sequence = int(values["sequence"])
        own = _ManifestFile(sequence, join_path(self._manifests(table), f"{sequence:010d}.json"))
        try:
            self._require_files(table, values)
            require_token(self.output, table, token)
            failpoints.hit("publish.before_manifest")
            self._storage.create_if_absent(own.path, to_json(values))
            failpoints.hit("publish.after_manifest")
            created = self._read_manifest(own)
            if created["load_id"] != self.load_id:
                raise TableChangedError(
                    f"table {table!r}: load {created['load_id']} was published while load {self.load_id} was on its "
                    "way; run the same command again"
                )
        except (FileNotFoundError, LeaseLostError, TableChangedError):
            self._take_back(table, moves)
            raise
        return own, created

    def _take_back(self, table: str, moves: Sequence[tuple[str, str]]) -> None:
        """Moves files of this load from the table's directory back to staging, unless the table has come to hold them."""
        manifest = self.current_manifest(table) or {"files": []}
        held = {file["name"] for file in manifest["files"]}
        directory = self._sizes(self._directory(table))
        for staged, published in moves:
            if published.rpartition("/")[2] in directory.keys() - held:
                # Gone where a later holder of the lease has cleared it away: the chunk is then converted again.
                with contextlib.suppress(FileNotFoundError):
                    self._storage.move(published, staged)

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
        """Deletes what the manifest does not name, then marks the table as whole.

        A load whose token is not above that of the manifest can never be published any more, unless it was; files of a
        later one are its beginnings, and stay.
        """
        self._require_files(table, manifest)
        directory = self._directory(table)
        kept = {file["name"] for file in manifest["files"]} | {SUCCESS}
        leftover = [name for name in self._sizes(directory) if name not in kept and not _is_hidden(name)]
        markers = self._markers(table)
        doomed = [name for name in leftover if self._is_older(table, _loads_of(name, markers), manifest["token"])]
        if doomed:
            self._storage.delete_files([join_path(directory, name) for name in doomed])
        if len(doomed) == len(leftover) and self._read_success(table) != _success_bytes(manifest):
            self._storage.write_atomic(join_path(directory, SUCCESS), _success_bytes(manifest))
        failpoints.hit("publish.after_success")

    def _is_older(self, table: str, loads: Sequence[str], token: int) -> bool:
        """Whether a file that any of these loads may have written is from before that token or under it."""
        return all(int(self._storage.read_bytes(self._marker(table, load)) or b"0") <= token for load in loads)

    def _refuse_foreign_files(self, table: str) -> None:
        directory = self._directory(table)
        markers = self._markers(table)
        for name in self._sizes(directory):
            if name != SUCCESS and not _loads_of(name, markers) and not _is_hidden(name):
                raise ValueError(
                    f"{join_path(directory, name)} was not written by beam_etl, and replacing table {table!r} would "
                    "mix with it; move it away, or choose another output or table name"
                )

    def _read_success(self, table: str) -> bytes:
        try:
            return self._storage.read_bytes(join_path(self._directory(table), SUCCESS))
        except FileNotFoundError:
            return b""

    def _require_files(self, table: str, manifest: Mapping[str, Any]) -> None:
        missing = self._missing_files(table, manifest["files"])
        if missing:
            raise FileNotFoundError(
                f"table {table!r}: {missing[0]} of load {manifest['load_id']} is missing or damaged; restore it, or "
                "replace the table by a new load"
            )

    def _missing_files(self, table: str, files: Sequence[Mapping[str, Any]]) -> list[str]:
        directory = self._directory(table)
        sizes = self._sizes(directory)
        return [join_path(directory, file["name"]) for file in files if sizes.get(file["name"]) != file["bytes"]]

    def _list_manifests(self, table: str) -> list[_ManifestFile]:
        directory = self._manifests(table)
        matches = (_MANIFEST_NAME.fullmatch(name) for name in self._sizes(directory))
        found = (_ManifestFile(int(m[1]), join_path(directory, m[0])) for m in matches if m)
        return sorted(found, key=lambda manifest: manifest.sequence)

    def _marker(self, table: str, load: str) -> str:
        return join_path(self._manifests(table), load + MARKER_SUFFIX)

    def _markers(self, table: str) -> set[str]:
        """The loads, by their safe names, whose files may stand in the table's directory."""
        names = self._sizes(self._manifests(table))
        return {name.removesuffix(MARKER_SUFFIX) for name in names if name.endswith(MARKER_SUFFIX)}

    def _read_manifest(self, manifest: _ManifestFile) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._storage.read_bytes(manifest.path))
        return values


@dataclasses.dataclass(frozen=True)
class _ManifestFile:
    """A manifest by its name: sequence and path."""

    sequence: int
    path: str


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _loads_of(name: str, loads: set[str]) -> list[str]:
    """Those of the loads that may have written a file of that name."""
    return [name[: dash.start()] for dash in re.finditer("-", name) if name[: dash.start()] in loads]


def _success_bytes(manifest: Mapping[str, Any]) -> bytes:
    return f"{manifest['load_id']}\n".encode()
