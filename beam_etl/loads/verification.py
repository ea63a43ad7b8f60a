"""Whether what is published is still what was loaded: files, checksums, counts, and the contents of both sinks.

Nothing is believed that can be counted: Parquet files are read whole, records of sources are found again, PostgreSQL's
rows are read back and compared with Parquet's by a fingerprint. Reads only, in bounded memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from beam_etl.loads.audit import list_loads
from beam_etl.loads.chunk_facts import read_chunk_facts
from beam_etl.loads.fingerprint import Fingerprint
from beam_etl.loads.plan import read_plan
from beam_etl.loads.publication import read_published
from beam_etl.loads.reject_files import rejects_directory
from beam_etl.loads.source_counts import count_sources
from beam_etl.loads.table_plan import read_table_plan
from beam_etl.parquet.staging import safe_name
from beam_etl.postgres.names import postgres_column
from beam_etl.postgres.read_back import UnreadableValueError, read_table
from beam_etl.postgres.session import Connection
from beam_etl.postgres.store import PostgresStore
from beam_etl.postgres.tables import column_types
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings
from beam_etl.storage import join_path, local_path, storage_for

Place = Literal["parquet", "postgres", "sources", "rejects"]

READ_BYTES = 1 << 20
BATCH_ROWS = 1 << 15
# A table that is published again and again while it is looked at is tried so often.
ATTEMPTS = 3
RETRY_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that differs, or, where it is no fault, that could not be compared."""

    place: Place
    subject: str
    text: str
    fault: bool = True


@dataclasses.dataclass
class TableVerification:
    """What was looked at in one table, and what was found.

    Attributes:
      files, rows: of Parquet, as counted now.
      postgres_rows: as counted now; None where PostgreSQL was not looked at.
      compared: the contents of both sinks were compared.
      sources, sources_counted: files that brought the table's rows, and those whose records were counted again.
      rejects: lines in the rejects files.
    """

    table: str
    loads: tuple[str, ...]
    files: int = 0
    rows: int = 0
    postgres_rows: int | None = None
    compared: bool = False
    sources: int = 0
    sources_counted: int = 0
    rejects: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)

    @property
    def right(self) -> bool:
        return not any(finding.fault for finding in self.findings)

    def add(self, place: Place, subject: str, text: str, fault: bool = True) -> None:
        self.findings.append(Finding(place, subject, text, fault))

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "right": self.right}


def verify_tables(sinks: SinkSettings, load_id: str = "", table: str = "") -> Iterator[TableVerification]:
    """Looks at every published table, at one, or at those of which a load is part.

    Args:
      sinks: of any load; without PostgreSQL only the lake is looked at.
      load_id: sources and rejects of this load alone are counted; sinks are always looked at whole.

    Raises:
      ValueError: no such table or load, or the load is no part of any table now.
      RuntimeError: a table is published again and again meanwhile.
    """
    published = _read_manifests(sinks.output)
    if not published:
        raise ValueError(f"{sinks.output} holds no published table; give the --output of its loads")
    manifests = [manifest for manifest in published if table in ("", manifest["table"])]
    if not manifests:
        raise ValueError(f"{sinks.output} knows no published table {table!r}")
    if load_id:
        if load_id not in list_loads(sinks.output):
            raise ValueError(f"{sinks.output} knows no load {load_id!r}; python -m beam_etl audit lists those it knows")
        manifests = [manifest for manifest in manifests if load_id in manifest["loads"]]
        if not manifests:
            raise ValueError(
                f"load {load_id} is not part of any table now; python -m beam_etl audit {load_id} tells more"
            )
    if (postgres := _open_postgres(sinks)) is not None:  # before Parquet is read for hours
        postgres.run(lambda connection: connection.execute("SELECT"))
        postgres.close()
    for manifest in manifests:
        yield _verify_unchanged(sinks, manifest, load_id)


def _open_postgres(sinks: SinkSettings) -> PostgresStore | None:
    """As sinks.open_postgres, of little patience: somebody waits for the answer, and asking again costs nothing."""
    if sinks.postgres is None:
        return None
    store = PostgresStore(sinks.postgres, "", sinks.postgres_schema, retry_seconds=RETRY_SECONDS)
    store.open()
    return store


def _read_manifests(output: str) -> list[dict[str, Any]]:
    """The current manifest of each table."""
    storage = storage_for(output)
    root = join_path(local_path(output), "_beam_etl/manifests")
    last = {path.rpartition("/")[0]: path for path, _ in storage.list_files(root) if path.endswith(".json")}
    return [json.loads(storage.read_bytes(path)) for path in last.values()]


def _verify_unchanged(sinks: SinkSettings, manifest: Mapping[str, Any], load_id: str) -> TableVerification:
    for _ in range(ATTEMPTS):
        verified = _verify(sinks, manifest, load_id)
        now = sinks.open_parquet().current_manifest(manifest["table"])
        if now is None or now["sequence"] == manifest["sequence"]:
            return verified
        manifest = now
    raise RuntimeError(f"table {manifest['table']!r} is published again and again; verify it when its loads are over")


def _verify(sinks: SinkSettings, manifest: Mapping[str, Any], load_id: str) -> TableVerification:
    verified = TableVerification(manifest["table"], tuple(manifest["loads"]))
    contents = Fingerprint(TableSchema.from_json(manifest["schema"]).arrow)
    loads = [load for load in verified.loads if load_id in ("", load)]
    known = list_loads(sinks.output)
    to_postgres = any(read_plan(sinks.output, load).postgres for load in verified.loads if load in known)
    postgres = _open_postgres(sinks) if to_postgres else None
    whole = _verify_parquet(sinks, manifest, verified, contents if postgres else None)
    for load in loads:
        _verify_load(dataclasses.replace(sinks, load_id=load), manifest, verified)
    if postgres is not None:
        try:
            _verify_postgres(postgres, TableSchema.from_json(manifest["schema"]), verified, contents if whole else None)
        finally:
            postgres.close()
    elif sinks.postgres is not None:
        verified.add("postgres", verified.table, "its loads did not go to PostgreSQL", fault=False)
    return verified


def _verify_parquet(
    sinks: SinkSettings, manifest: Mapping[str, Any], verified: TableVerification, contents: Fingerprint | None
) -> bool:
    """Whether all files are what the manifest says; only then are their contents gathered completely."""
    directory = join_path(local_path(sinks.output), safe_name(verified.table))
    named = {file["name"] for file in manifest["files"]}
    faults = 0
    for file in manifest["files"]:
        problem = _check_file(join_path(directory, file["name"]), file, verified, contents)
        if problem:
            faults += 1
            verified.add("parquet", file["name"], problem)
    for path, _ in storage_for(directory).list_files(directory):
        name = path[len(directory) + 1 :]
        if name.endswith(".parquet") and name not in named:
            verified.add("parquet", name, "stands beside the table's files, and the manifest does not name it")
    if not sinks.open_parquet().state(verified.table).finished and not faults:
        verified.add(
            "parquet", "_SUCCESS", "is not there: a publish is under way, or was cut off; run its command again"
        )
    return not faults


def _check_file(path: str, file: Mapping[str, Any], verified: TableVerification, contents: Fingerprint | None) -> str:
    storage = storage_for(path)
    if storage.stat(path) is None:
        return "is missing"
    size = crc = 0
    with storage.open_read(path) as stream:
        while block := stream.read(READ_BYTES):
            size += len(block)
            crc = google_crc32c.extend(crc, block)
    verified.files += 1
    if size != file["bytes"]:
        return f"has {size:,} bytes; {file['bytes']:,} were written"
    if f"{crc:08x}" != file["checksum"]:
        return f"has the CRC-32C {crc:08x}; {file['checksum']} was written: its bytes are damaged or were changed"
    with storage.open_read(path) as stream, pq.ParquetFile(stream) as parquet:
        rows = parquet.metadata.num_rows
        verified.rows += rows
        if rows != file["rows"]:
            return f"has {rows:,} rows; the manifest says {file['rows']:,}"
        if contents is not None:
            for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
                contents.add(_aligned(batch, contents.schema))
    return ""


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with all columns of its table; those that a later load has added are NULL."""
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _verify_load(sinks: SinkSettings, manifest: Mapping[str, Any], verified: TableVerification) -> None:
    """Commit records against the manifest, sources against commit records, rejects against the books."""
    load, table = sinks.load_id, verified.table
    records = read_chunk_facts(sinks.output, load, table)
    table_plan = read_table_plan(sinks.output, load, table)
    published = read_published(table, sinks)
    if table_plan is None or published is None or sum(record.rows for record in records) != published.books.rows:
        verified.add("sources", load, "its commit records or books are not kept any more", fault=False)
        return
    files = {file["name"]: (file["rows"], file["bytes"], file["checksum"]) for file in manifest["files"]}
    for record in (record for record in records if record.file):
        name = f"{safe_name(load)}-{record.chunk_id}.parquet"
        if files.get(name) != (record.rows, record.file_bytes, record.checksum):
            verified.add("parquet", name, "the manifest says of it otherwise than the commit record, or nothing")
    counts = count_sources(table_plan.inspected, records, read_plan(sinks.output, load).max_record_bytes)
    for count in counts:
        if count.found is None:
            verified.add("sources", count.name, f"{count.reason}; not counted again", count.damaged)
        elif count.found != count.loaded:
            verified.add("sources", count.name, f"holds {count.found:,} records; {count.loaded:,} were loaded")
    verified.sources += len(counts)
    verified.sources_counted += sum(count.found is not None for count in counts)
    directory = rejects_directory(sinks.output, load, table)
    storage = storage_for(directory)
    lines = sum(_count_lines(path) for path, _ in storage.list_files(directory) if path.endswith(".jsonl"))
    expected = published.books.rejects + published.books.rejected_files
    verified.rejects += lines
    if lines != expected:
        verified.add("rejects", load, f"{lines:,} lines in {directory}; the books say {expected:,}")


def _count_lines(path: str) -> int:
    with storage_for(path).open_read(path) as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(READ_BYTES), b""))


def _verify_postgres(
    postgres: PostgresStore, schema: TableSchema, verified: TableVerification, contents: Fingerprint | None
) -> None:
    """Loads, columns, count and contents.

    Args:
      contents: of Parquet, None where its files are not whole: then there is nothing to compare with.
    """
    table = verified.table
    loads = postgres.loads_of(table)
    if not loads or not postgres.target_exists(table):
        where = f"schema {postgres.target_schema!r}"
        verified.add("postgres", table, f"is not in {where}, or was never loaded there (--postgres_schema)")
        return
    if (held := tuple(load.load_id for load in loads)) != verified.loads:
        verified.add(
            "postgres", table, f"consists of loads {', '.join(held)}; in Parquet of {', '.join(verified.loads)}"
        )
        return
    target = loads[-1].target_table
    types = postgres.run(lambda connection: column_types(connection, postgres.target_schema, target))
    if not _check_columns(schema, types, verified):
        return

    def work(connection: Connection) -> Fingerprint:
        found = Fingerprint(schema.arrow)
        read_table(connection, sql.Identifier(postgres.target_schema, target), schema.arrow, found.add)
        return found

    try:
        found = postgres.run(work)
    except UnreadableValueError as error:
        verified.add("postgres", table, f"holds a value that no load has brought: {error}")
        return
    verified.postgres_rows = found.rows
    booked = sum(load.rows for load in loads)
    if found.rows != booked:
        verified.add("postgres", table, f"holds {found.rows:,} rows; {booked:,} were loaded")
    elif contents is None:
        verified.add("postgres", table, "contents not compared, because Parquet's files are not whole", fault=False)
    elif booked != contents.rows:
        refused = contents.rows - booked
        text = f"contents not compared, because PostgreSQL refused {refused:,} rows that Parquet took"
        verified.add("postgres", table, text, fault=False)
    else:
        verified.compared = True
        _compare(contents, found, verified)


def _check_columns(schema: TableSchema, types: Mapping[str, str], verified: TableVerification) -> bool:
    """Whether all columns are there in their types; others are somebody else's."""
    names = [postgres_column(column.name) for column in schema.columns]
    wrong = False
    for name, column in zip(names, schema.columns, strict=True):
        if types.get(name) != column.type.postgres:
            wrong = True
            verified.add(
                "postgres", name, f"was loaded as {column.type.postgres}, and is {types.get(name, 'gone')} now"
            )
    for name in sorted(types.keys() - set(names)):
        verified.add("postgres", name, "is a column that no load has made; not compared", fault=False)
    return not wrong


def _compare(parquet: Fingerprint, postgres: Fingerprint, verified: TableVerification) -> None:
    if parquet.equals(postgres):
        return
    changed: Sequence[str] = parquet.changed_columns(postgres)
    for name in changed:
        verified.add("postgres", name, "holds other values than in Parquet")
    if not changed:
        moved = parquet.moved_columns(postgres)
        subject = ", ".join(moved) or verified.table
        verified.add("postgres", subject, "holds the same values as in Parquet, but some of them in other rows")
