"""What the lake and PostgreSQL know of loads: states, counts, runs, files and chunks, told from durable facts alone.

"Published" is what a manifest says, and with PostgreSQL what its table_loads says too; reports are asked only for the
reasons of what is not published. So the answer is right after any crash, whatever a run could not write down any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from beam_etl.loads.chunk_facts import read_chunk_facts
from beam_etl.loads.leases import LakeLeases
from beam_etl.loads.plan import LoadPlan, read_plan, read_report
from beam_etl.loads.publication import read_published
from beam_etl.loads.runs import Run, read_runs
from beam_etl.loads.table_plan import TablePlan, read_table_plan
from beam_etl.model import ChunkRecord, SourceFile
from beam_etl.sinks import SinkSettings
from beam_etl.storage import join_path, local_path, place_of, storage_for

State = Literal["pending", "running", "committed", "published", "failed", "skipped"]


@dataclasses.dataclass(frozen=True)
class FileAudit:
    """One file of a load: what became of it, and the counts of its records where its chunks are committed."""

    uri: str
    member: str
    version: str
    bytes: int
    state: State
    records: int = 0
    rejects: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ChunkAudit:
    """One chunk: its rows, its rejects, and the file with its checksum in which Parquet has it."""

    chunk_id: str
    state: State
    rows: int = 0
    rejects: int = 0
    file: str = ""
    bytes: int = 0
    checksum: str = ""


@dataclasses.dataclass(frozen=True)
class TableAudit:
    """One table of a load.

    Attributes:
      state: published only where every sink of the load has published it.
      current: the table holds the load now, in every sink that was asked.
      sinks: sink -> whether the load was ever published there.
      reasons: why it is not published.
    """

    table: str
    mode: str
    state: State
    current: bool
    sinks: Mapping[str, bool]
    records_in: int
    rows: int
    rejects: int
    reasons: tuple[str, ...]
    files: tuple[FileAudit, ...]
    chunks: tuple[ChunkAudit, ...]


@dataclasses.dataclass(frozen=True)
class LoadAudit:
    """One load with its runs and tables."""

    load_id: str
    state: State
    created: str
    runs: tuple[Run, ...]
    tables: tuple[TableAudit, ...]

    @property
    def current(self) -> bool:
        return any(table.current for table in self.tables)

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "current": self.current}


def list_loads(output: str) -> list[str]:
    """The ids of all loads of a lake that were planned."""
    root = join_path(local_path(output), "_beam_etl/loads")
    paths = (path[len(root) + 1 :] for path, _ in storage_for(output).list_files(root))
    return sorted(path.removesuffix("/plan.json") for path in paths if path.endswith("/plan.json"))


def read_audit(sinks: SinkSettings, load_id: str) -> LoadAudit:
    """What is known of one load. Reads only.

    Args:
      sinks: of any load; without PostgreSQL only the lake is asked.

    Raises:
      ValueError: the lake knows no such load.
    """
    if load_id not in list_loads(sinks.output):
        raise ValueError(f"{sinks.output} knows no load {load_id!r}; python -m beam_etl audit lists those it knows")
    of_load = dataclasses.replace(sinks, load_id=load_id)
    plan = read_plan(sinks.output, load_id)
    runs = read_runs(sinks.output, load_id)
    entries = (read_report(sinks.output, load_id) or {"tables": {}})["tables"]
    names = sorted({file.table for file in (*plan.files, *plan.skipped)})
    tables = tuple(_table(of_load, plan, runs, name, entries.get(name, {})) for name in names)
    return LoadAudit(load_id, _join([table.state for table in tables]), plan.created, tuple(runs), tables)


def read_audits(sinks: SinkSettings, table: str | None = None) -> list[LoadAudit]:
    """All loads in the order of their planning, or those that have to do with a table."""
    audits = [read_audit(sinks, load_id) for load_id in list_loads(sinks.output)]
    kept = [audit for audit in audits if table is None or any(own.table == table for own in audit.tables)]
    return sorted(kept, key=lambda audit: (audit.created, audit.load_id))


def find_file(audits: Sequence[LoadAudit], wanted: str) -> Iterator[tuple[LoadAudit, TableAudit, FileAudit]]:
    """Where a file went: every load that planned or skipped it. It is named by its path, the end of it, or a member."""
    place = place_of(wanted)
    for audit in audits:
        for table in audit.tables:
            for file in table.files:
                names = (f"/{file.uri}", f"{file.uri}!{file.member}", f"/{file.member}")
                if place_of(file.uri) == place or any(name.endswith((f"/{wanted}", f"!{wanted}")) for name in names):
                    yield audit, table, file


def _table(
    sinks: SinkSettings, plan: LoadPlan, runs: Sequence[Run], table: str, entry: Mapping[str, Any]
) -> TableAudit:
    planned, skipped = plan.files_of(table), [file for file in plan.skipped if file.table == table]
    published, current = _published(sinks, table)
    table_plan = read_table_plan(sinks.output, plan.load_id, table)
    committed = read_chunk_facts(sinks.output, plan.load_id, table) or _staged_records(sinks, table)
    if not planned:
        state: State = "skipped"
    elif all(published.values()):
        state = "published"
    elif _is_running(sinks, runs, table):
        state = "running"
    elif entry.get("reasons"):
        state = "failed"
    elif committed or any(published.values()):
        state = "committed"
    else:
        state = "failed" if runs and runs[-1].outcome == "failed" else "pending"
    intent = read_published(table, sinks)
    books = dataclasses.asdict(intent.books) if intent is not None and state == "published" else entry
    return TableAudit(
        table=table,
        mode=plan.mode_of(table) if planned else "append",
        state=state,
        current=current,
        sinks=published,
        records_in=books.get("records_in", 0),
        rows=books.get("rows", 0),
        rejects=books.get("rejects", 0),
        reasons=() if state == "published" else tuple(entry.get("reasons", ())) or _deaths(runs, state),
        files=(*_files(planned, table_plan, committed, state), *_skipped(skipped)),
        chunks=_chunks(table_plan, committed, state),
    )


def _published(sinks: SinkSettings, table: str) -> tuple[dict[str, bool], bool]:
    """Sink -> whether the load was ever published there; and whether all of them hold it now."""
    parquet = sinks.open_parquet()
    published = {"parquet": bool(parquet.published_manifest(table))}
    current = sinks.load_id in parquet.state(table).loads
    postgres = sinks.open_postgres() if read_plan(sinks.output, sinks.load_id).postgres else None
    if postgres is not None:
        try:
            published["postgres"] = postgres.has_published(table)
            current = current and sinks.load_id in postgres.state(table).loads
        finally:
            postgres.close()
    return published, current


def _staged_records(sinks: SinkSettings, table: str) -> list[ChunkRecord]:
    """Commit records of a table that is not published, of the schema with which its last attempt went furthest."""
    directory = sinks.open_parquet().staging_directory(table, "")
    found = {
        path[len(directory) :].strip("/").partition("/")[0] for path, _ in storage_for(directory).list_files(directory)
    }
    attempts = [sinks.open_parquet().load_records(table, schema_hash) for schema_hash in sorted(found)]
    return max(attempts, key=len, default=[])


def _is_running(sinks: SinkSettings, runs: Sequence[Run], table: str) -> bool:
    at_work = {run.run for run in runs if not run.ended and not run.has_died()}
    return bool(at_work & LakeLeases.active_runs(sinks.output, table))


def _deaths(runs: Sequence[Run], state: State) -> tuple[str, ...]:
    if state in ("published", "running", "skipped") or not runs:
        return ()
    last = runs[-1]
    if last.outcome == "failed":
        return (last.reason,)
    return () if last.ended else (f"the run of {last.started} was cut off; the same command resumes the load",)


def _files(
    planned: Sequence[SourceFile], table_plan: TablePlan | None, committed: Sequence[ChunkRecord], state: State
) -> Iterator[FileAudit]:
    counts: dict[int, tuple[int, int]] = {}
    for span in (span for record in committed for span in record.spans):
        records, rejects = counts.get(span.file_id, (0, 0))
        counts[span.file_id] = (records + span.records, rejects + span.rejects)
    for file in planned:
        reject = table_plan.rejected.get(file.file_id) if table_plan else None
        own: State = "failed" if reject else state
        yield FileAudit(
            *(file.uri, file.member, file.version, file.size_bytes, own),
            *counts.get(file.file_id, (0, 0)),
            reason=str(reject["reason"]) if reject else "",
        )


def _skipped(files: Sequence[SourceFile]) -> Iterator[FileAudit]:
    for file in files:
        yield FileAudit(file.uri, file.member, file.version, file.size_bytes, "skipped", reason="the table held it")


def _chunks(table_plan: TablePlan | None, committed: Sequence[ChunkRecord], state: State) -> tuple[ChunkAudit, ...]:
    records = {record.chunk_id: record for record in committed}
    done: State = "published" if state == "published" else "committed"
    return tuple(
        ChunkAudit(chunk_id, done, own.rows, own.rejects, own.file, own.file_bytes, own.checksum)
        if (own := records.get(chunk_id))
        else ChunkAudit(chunk_id, "pending")
        for chunk_id in sorted(table_plan.chunks if table_plan else ())
    )


def _join(states: Sequence[State]) -> State:
    """A load is what the table says that is furthest from its end."""
    if all(state == "skipped" for state in states):
        return "skipped"
    order: tuple[State, ...] = ("running", "failed", "committed", "pending")
    return next((state for state in order if state in states), "published")
