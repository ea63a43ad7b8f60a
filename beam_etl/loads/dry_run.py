"""What a load would do, found out from its files' heads and what the tables hold; nothing is written where it would load."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from beam_etl.config import EtlConfig
from beam_etl.declarations import declared_dialect, sink_settings, table_declaration
from beam_etl.loads.holdings import Holdings, ever_published, read_holdings, select_files
from beam_etl.loads.plan import load_directory, plan_chunk_bytes, plan_key, read_plan, read_report
from beam_etl.model import Chunk, InspectedFile, Reject, SourceFile, Span
from beam_etl.postgres.names import postgres_column, postgres_name, quoted_name
from beam_etl.reading.chunk_reader import read_span
from beam_etl.reading.evidence import TableDeclaration, columns_of, infer_schema, merge_evidence, sample_evidence
from beam_etl.reading.resync import read_records
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings
from beam_etl.sources.archives import ArchiveError, SourceReadError, is_archive, member_bytes, plain_blocks
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.discovery import discover
from beam_etl.sources.inspection import inspect_file
from beam_etl.sources.table_headers import unite_headers
from beam_etl.sources.table_names import TableRule
from beam_etl.storage import storage_for

# Of a table with more files, as many are looked into, spread over all.
MOST_FILES = 30
HEAD_BYTES = 1 << 20
SAMPLE_BYTES = 256 << 10
# Plain bytes of one packed byte, where the archive does not say; text packs about so.
PACKED_RATIO = 5
# Rough figures of a load on common hardware: it starts in so many seconds, then each core converts so many bytes a second.
START_SECONDS = 4.0
BYTES_PER_CORE_SECOND = 50e6
# Of the interpreter and its libraries, and for each chunk that a core works on (transforms.convert_chunks.EXPANSION).
BASE_MEMORY_BYTES = 450 << 20
EXPANSION = 4


def dry_run(config: EtlConfig) -> dict[str, Any]:
    """What the load would do, as plain values: files, tables, dialects, schemas, chunks and estimates.

    Raises:
      ValueError: the load would be refused: no such input, a table that must not be there, and the like.
    """
    rules = [TableRule(table.name, table.files) for table in config.tables]
    files = discover(config.input, rules, config.table)
    names = sorted({file.table for file in files})
    sinks, notes = readable_sinks(config)
    holdings = read_holdings(names, sinks)
    selection = select_files(config, files, holdings)
    cores = os.cpu_count() or 1
    plain = plain_bytes(selection.files)
    chunk_bytes = plan_chunk_bytes(config, selection.files, cores)
    with tempfile.TemporaryDirectory(prefix="beam_etl_plan_") as directory:
        tables = {}
        for name in names:
            own = [file for file in selection.files if file.table == name]
            base = selection.bases.get(name)
            table = config.table_config(name)
            look = _TableLook(
                declared_dialect(config.dialect, table),
                table_declaration(table, base.schema if base else None),
                config.max_record_bytes,
                directory,
            )
            tables[name] = {
                "mode": table.mode,
                "files": len(own),
                "skipped": [file.uri for file in selection.skipped if file.table == name],
                "plain_bytes": sum(plain[file.file_id] for file in own),
                "chunks": sum(-(-plain[file.file_id] // chunk_bytes) for file in own),
                **look.look_into(own, plain, config),
            }
    total = sum(table["plain_bytes"] for table in tables.values())
    at_once = min(cores, max(sum(table["chunks"] for table in tables.values()), 1))
    return {
        "load": _earlier_load(config, files, holdings, sinks),
        "notes": notes,
        "files": len(selection.files),
        "bytes": total,
        "chunk_bytes": chunk_bytes,
        "estimated_seconds": round(START_SECONDS + total / (BYTES_PER_CORE_SECOND * cores), 1) if total else 0.0,
        "estimated_memory_bytes": BASE_MEMORY_BYTES + EXPANSION * at_once * min(chunk_bytes, total),
        "tables": tables,
    }


def readable_sinks(config: EtlConfig) -> tuple[SinkSettings, list[str]]:
    """The sinks that can be looked into without changing anything, and what is to be told of the others."""
    sinks = sink_settings(config, "")
    if config.postgres is None:
        return sinks, []
    if config.postgres.startswith("embedded:"):
        told = "the embedded PostgreSQL is not started for this; what its tables hold is taken from the Parquet side"
        return dataclasses.replace(sinks, postgres=None), [told]
    store = sinks.open_postgres()
    assert store is not None, "there is a reference"
    try:
        server = store.check()
        books = store.run(
            lambda connection: connection.execute("SELECT to_regclass('beam_etl.table_files')").fetchone()
        )
    finally:
        store.close()
    if books is None or books[0] is None:
        return dataclasses.replace(sinks, postgres=None), [f"{server} has no books of beam_etl yet"]
    return sinks, [server]


def _earlier_load(config: EtlConfig, files: Sequence[SourceFile], holdings: Holdings, sinks: SinkSettings) -> str:
    """Whether this very load was made, or begun, before."""
    key, generation = plan_key(config, files), 0
    while not config.force:
        load_id = f"{key}-{generation:03d}"
        path = f"{load_directory(config.output, load_id)}/plan.json"
        if storage_for(path).stat(path) is None:
            break
        frozen, report = read_plan(config.output, load_id), read_report(config.output, load_id)
        if report is not None and report["published"]:
            if holdings.is_current(frozen):
                return f"{load_id} is what the tables hold; it would not be loaded again without --force"
        elif holdings.may_resume(frozen, lambda *load: ever_published(sinks, *load)):
            return f"{load_id} was begun and would be resumed"
        generation += 1
    return "a new load"


def plain_bytes(files: Sequence[SourceFile]) -> dict[int, int]:
    """file_id -> size of the plain text: exact for plain files and members of archives, else estimated."""
    sizes: dict[int, int] = {}
    members: dict[str, dict[str, int]] = {}
    for file in files:
        if is_archive(file.container):
            if file.uri not in members:
                members[file.uri] = _member_bytes(file)
            sizes[file.file_id] = members[file.uri].get(file.member, 0)
        else:
            sizes[file.file_id] = file.size_bytes * (1 if file.container == "none" else PACKED_RATIO)
    return sizes


def _member_bytes(file: SourceFile) -> dict[str, int]:
    try:
        return member_bytes(file)
    except (ArchiveError, SourceReadError):
        return {}  # the look into it says what is wrong


@dataclasses.dataclass(frozen=True)
class _TableLook:
    """Looks into the heads of the files of one table.

    Attributes:
      dialect, declaration: what is declared.
      max_record_bytes: longest record.
      directory: for heads of packed files; belongs to this look.
    """

    dialect: DeclaredDialect
    declaration: TableDeclaration
    max_record_bytes: int
    directory: str

    def look_into(self, files: Sequence[SourceFile], plain: Mapping[int, int], config: EtlConfig) -> dict[str, Any]:
        step = max(-(-len(files) // MOST_FILES), 1)
        outcomes = {file: self._inspect(file) for file in files[::step]}
        unreadable = [
            {"file": file.uri, "member": file.member, "reason": outcome.reason}
            for file, outcome in outcomes.items()
            if isinstance(outcome, Reject)
        ]
        inspected = unite_headers(outcome for outcome in outcomes.values() if isinstance(outcome, InspectedFile))
        chunks = [self._head(file) for file in inspected if file.body_end > file.body_start]
        samples = [sample_evidence(chunk, self.declaration, SAMPLE_BYTES, self.max_record_bytes) for chunk in chunks]
        seen = merge_evidence([*map(columns_of, inspected), *samples])
        refused = self.declaration.refused_columns(seen)
        schema = TableSchema(()) if refused or not inspected else infer_schema(seen, self.declaration)
        counts = [self._count(chunk) for chunk in chunks]
        sampled_bytes = sum(size for size, _, _ in counts)
        before_records = sum(file.body_start for file in inspected) / max(len(inspected), 1) * len(files)
        planned = sum(plain[file.file_id] for file in files) - before_records
        scale = planned / sampled_bytes if sampled_bytes else 0.0
        return {
            "looked_into": len(outcomes),
            "unreadable": unreadable,
            "refused_columns": refused,
            "missing_columns": self.declaration.missing_columns(seen) if seen else [],
            "estimated_rows": round(scale * sum(records for _, records, _ in counts)),
            "estimated_parquet_bytes": round(scale * sum(packed for _, _, packed in counts)),
            "dialects": [_dialect(file, outcomes) for file in inspected],
            "schema": [
                {"name": c.name, "type": str(c.type), "postgres": c.type.postgres, "declared": c.declared}
                for c in schema.columns
            ],
            "ddl": create_table(config.postgres_schema, files[0].table, schema) if schema.columns else "",
        }

    def _inspect(self, file: SourceFile) -> InspectedFile | Reject:
        if file.container == "none":
            return inspect_file(file, self.dialect, self.directory)
        head = Path(self.directory) / f"{file.file_id}.head"
        try:
            with head.open("wb") as target:
                for block in plain_blocks(file):
                    target.write(block)
                    if target.tell() >= HEAD_BYTES:
                        break
        except (ArchiveError, SourceReadError) as error:
            return Reject(file.uri, file.member, 0, 0, 0, 0, "", "corrupt_file", str(error), b"")
        stat = storage_for(str(head)).stat(str(head))
        size, version = (stat.size_bytes, stat.version) if stat else (0, "")
        plain = dataclasses.replace(file, uri=str(head), member="", container="none", size_bytes=size, version=version)
        outcome = inspect_file(plain, self.dialect, self.directory)
        return (
            dataclasses.replace(outcome, file=file.uri, member=file.member) if isinstance(outcome, Reject) else outcome
        )

    def _head(self, file: InspectedFile) -> Chunk:
        end = min(file.body_end, file.body_start + SAMPLE_BYTES)
        return Chunk(file.source.table, f"{file.source.file_id}", (Span(file, file.body_start, end),))

    def _count(self, chunk: Chunk) -> tuple[int, int, int]:
        """Bytes, records, and bytes once packed, of a head."""
        [span] = chunk.spans
        data = read_span(span)
        records = read_records(data, span.file.dialect, len(span.file.columns), self.max_record_bytes).index.n_records
        return len(data), records, len(pa.compress(np.ascontiguousarray(data).tobytes(), "zstd"))


def create_table(schema: str, table: str, columns: TableSchema) -> str:
    """The table as PostgreSQL would be told to make it."""
    lines = [f"    {quoted_name(postgres_column(column.name))} {column.type.postgres}" for column in columns.columns]
    target = f"{quoted_name(schema)}.{quoted_name(postgres_name(table))}"
    return f"CREATE TABLE {target} (\n" + ",\n".join(lines) + "\n);"


def _dialect(file: InspectedFile, outcomes: Mapping[SourceFile, Any]) -> dict[str, Any]:
    source = next(source for source in outcomes if source.file_id == file.source.file_id)
    return {
        "file": source.uri,
        "member": source.member,
        **dataclasses.asdict(file.dialect),
        "columns": len(file.columns),
        "confidence": file.confidence,
        # The end of a cut head is no end of the file.
        "evidence": [told for told in file.evidence if source.container == "none" or "footer" not in told],
    }
