"""The books of a table: kept from the plan and the durable commit records alone, never from what flowed through a runner.

So an element that any part of the engine lost, a staging row that disappeared or a file that was deleted is noticed, and
a table is published only if everything adds up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from beam_etl.loads.keyed import UpsertCounts
from beam_etl.loads.table_plan import TablePlan
from beam_etl.model import ChunkRecord, SourceFile
from beam_etl.reading.evidence import TableDeclaration

# A list of problems is for a person: after so many of one table the rest only repeats them.
MAX_PROBLEMS = 20


@dataclasses.dataclass(frozen=True)
class SinkBooks:
    """One sink's books of a table: the commit records, and rows counted again where they are stored now."""

    sink: str
    records: tuple[ChunkRecord, ...]
    stored_rows: int


@dataclasses.dataclass(frozen=True)
class TableBooks:
    """The books of one table after its last attempt.

    Attributes:
      table: its name.
      schema_hash: of the final schema.
      records_in: records found in its files.
      rows: rows that the records became in the Parquet dataset: records_in = rows + rejects + superseded + deleted, where
        the last two are 0 but in a published upsert.
      rejects: records rejected by conversion.
      rejected_bytes, read_bytes: bytes of those records, and of all chunks.
      misfits: records among the rejects in which a value does not fit its column.
      padded: records that were made as wide as the table.
      rescued: values that do not fit their columns and were kept beside them.
      sink_rows: sink -> rows in it; a sink may refuse rows that the others take, and counts them in its own books.
      superseded: records of an upsert that a later record of the same key has overtaken.
      deleted: records of an upsert that delete the row of their key.
      inserted, updated, removed: what an upsert did to the rows of the table; rows = inserted + updated.
      rejected_files: planned files that could not be read.
      files, bytes: planned files and their size in bytes, as given (packed ones as packed).
      problems: why the books do not balance; empty when they do.
      refusals: why a balanced table is not published by policy.
    """

    table: str
    schema_hash: str
    records_in: int = 0
    rows: int = 0
    rejects: int = 0
    rejected_bytes: int = 0
    read_bytes: int = 0
    misfits: int = 0
    padded: int = 0
    rescued: int = 0
    sink_rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rejected_files: int = 0
    files: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    superseded: int = 0
    deleted: int = 0
    inserted: int = 0
    updated: int = 0
    removed: int = 0

    @property
    def staged_rows(self) -> int:
        """Rows that were staged, of which an upsert takes only the winners."""
        return self.rows + self.superseded + self.deleted

    @property
    def balanced(self) -> bool:
        return not self.problems

    @property
    def publishable(self) -> bool:
        return self.balanced and not self.refusals


def balance_table(
    table: str,
    schema_hash: str,
    planned: Sequence[SourceFile],
    table_plan: TablePlan | None,
    sinks: Sequence[SinkBooks],
) -> TableBooks:
    """Checks that planned files, chunks, commit records and stored rows agree.

    Args:
      planned: the table's files in plan.json.
      table_plan: what planning found; None when it never got there.
      sinks: the books of every sink.
    """
    books = TableBooks(table, schema_hash, files=len(planned), bytes=sum(file.size_bytes for file in planned))
    if table_plan is None:
        return dataclasses.replace(books, problems=("no file of the table was planned into chunks",))
    problems = [*_file_problems(planned, table_plan), *_tiling_problems(table_plan)]
    for sink in sinks:
        problems.extend(_sink_problems(sink, table_plan))
    by_chunk = {record.chunk_id: record for sink in sinks for record in sink.records}
    first = sinks[0]
    spans = [span for record in by_chunk.values() for span in record.spans]
    return dataclasses.replace(
        books,
        records_in=sum(record.records for record in by_chunk.values()),
        rows=sum(record.rows for record in first.records),
        rejects=sum(record.rejects for record in first.records),
        rejected_bytes=sum(span.rejected_bytes for span in spans),
        read_bytes=sum(span.end - span.start for span in spans),
        misfits=sum(span.misfits for span in spans),
        padded=sum(span.padded for span in spans),
        rescued=sum(span.rescued for span in spans),
        sink_rows={sink.sink: sum(record.rows for record in sink.records) for sink in sinks},
        rejected_files=len(table_plan.rejected),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )


def settle_upsert(books: TableBooks, counts: UpsertCounts) -> TableBooks:
    """The books once it is known which records of an upsert win: what was staged is rows, superseded or deleted."""
    problems = books.problems
    if counts.staged != books.rows or counts.rows != counts.inserted + counts.updated:
        problems += (f"parquet: {books.rows} rows are staged, but the upsert accounts for {counts.staged}: {counts}",)
    return dataclasses.replace(books, **dataclasses.asdict(counts), problems=problems)


def refuse_columns(
    table: str,
    schema_hash: str,
    planned: Sequence[SourceFile],
    table_plan: TablePlan | None,
    declaration: TableDeclaration,
) -> TableBooks | None:
    """The books of a table whose files have columns that it may not get, of which nothing was converted; else None."""
    inspected = table_plan.inspected.values() if table_plan else ()
    names = {name for file in inspected for name in file.columns}
    missing = declaration.missing_columns(names)
    if table_plan is not None and missing and names:
        reason = f"no file has the column {missing[0]!r}, which upsert needs; there are {', '.join(sorted(names))}"
        return _refused(table, schema_hash, planned, table_plan, reason)
    refused = declaration.refused_columns(names)
    if table_plan is None or not refused:
        return None
    where = next(file.source.uri for file in inspected if refused[0] in file.columns)
    computed = [name for name in refused if name in declaration.computed]
    reason = (
        f"the files have a column {computed[0]!r} of their own ({where}), so that none can be added under this name; "
        "rename it in the files, or load without it (lineage, on_conflict)"
        if computed
        else f"the files have columns that the table lacks: {', '.join(refused)} ({refused[0]} in {where}); mend the files, or "
        "allow the columns by on_new_column add"
    )
    return _refused(table, schema_hash, planned, table_plan, reason)


def _refused(
    table: str, schema_hash: str, planned: Sequence[SourceFile], table_plan: TablePlan, reason: str
) -> TableBooks:
    return TableBooks(
        table,
        schema_hash,
        files=len(planned),
        bytes=sum(file.size_bytes for file in planned),
        rejected_files=len(table_plan.rejected),
        refusals=(reason,),
    )


def apply_policies(
    books: TableBooks, n_columns: int, on_bad_file: str, max_reject_ratio: float, fail_on_misfits: bool = False
) -> TableBooks:
    """The books with the reasons, if any, why the table is not published although it balances."""
    refusals = []
    if fail_on_misfits and books.misfits:
        refusals.append(
            f"{books.misfits} records hold a value that does not fit its column, and on_conflict is fail; look into the "
            "rejects, mend the files, or declare other types"
        )
    if not n_columns:
        cause = "could be read" if books.rejected_files == books.files else "has any content"
        refusals.append(f"no column is known, because no file {cause}; declare the columns in job.yaml")
    if books.rejected_files and on_bad_file == "fail_table":
        refusals.append(
            f"{books.rejected_files} of {books.files} files could not be read; mend them, or publish without them by "
            "--on_bad_file=publish_without"
        )
    ratio = books.rejects / books.records_in if books.records_in else 0.0
    if ratio > max_reject_ratio:
        refusals.append(
            f"{books.rejects} of {books.records_in} records were rejected ({ratio:.2%}), more than "
            f"--max_reject_ratio={max_reject_ratio:g} allows; look into the rejects, or allow more"
        )
    # One malformed record may have swallowed many, so bytes are held to the same bound as records.
    byte_ratio = books.rejected_bytes / books.read_bytes if books.read_bytes else 0.0
    if byte_ratio > max_reject_ratio >= ratio:
        refusals.append(
            f"the {books.rejects} rejected records hold {books.rejected_bytes} of {books.read_bytes} bytes "
            f"({byte_ratio:.2%}), more than --max_reject_ratio={max_reject_ratio:g} allows; look into the rejects, or "
            "allow more"
        )
    return dataclasses.replace(books, refusals=tuple(refusals))


def _file_problems(planned: Iterable[SourceFile], table_plan: TablePlan) -> list[str]:
    known = table_plan.inspected.keys() | table_plan.rejected.keys()
    return [
        f"{file.uri}{'!' + file.member if file.member else ''} was planned, but never inspected"
        for file in planned
        if file.file_id not in known
    ]


def _tiling_problems(table_plan: TablePlan) -> list[str]:
    """The spans of the chunks must tile the body of every inspected file."""
    spans: dict[int, list[tuple[int, int]]] = {file_id: [] for file_id in table_plan.inspected}
    for chunk_spans in table_plan.chunks.values():
        for file_id, start, end in chunk_spans:
            spans.setdefault(file_id, []).append((start, end))
    problems = []
    for file_id, file in table_plan.inspected.items():
        position = file.body_start
        for start, end in sorted(spans[file_id]):
            if start != position:
                problems.append(f"{file.source.uri}: bytes {position} to {start} are in no chunk, or in two")
            position = end
        if position != file.body_end:
            problems.append(f"{file.source.uri}: bytes {position} to {file.body_end} are in no chunk")
    return problems


def _sink_problems(sink: SinkBooks, table_plan: TablePlan) -> list[str]:
    problems = []
    records: Mapping[str, ChunkRecord] = {record.chunk_id: record for record in sink.records}
    for chunk_id, spans in table_plan.chunks.items():
        record = records.get(chunk_id)
        if record is None:
            problems.append(f"{sink.sink}: chunk {chunk_id} was never committed")
        elif tuple((s.file_id, s.start, s.end) for s in record.spans) != spans:
            problems.append(f"{sink.sink}: chunk {chunk_id} was committed with other spans than planned")
        elif record.records != record.rows + record.rejects:
            problems.append(
                f"{sink.sink}: chunk {chunk_id}: {record.records} records, but {record.rows} rows and "
                f"{record.rejects} rejects"
            )
    problems += [
        f"{sink.sink}: chunk {chunk_id} was committed, but never planned"
        for chunk_id in records.keys() - table_plan.chunks.keys()
    ]
    recorded = sum(record.rows for record in sink.records)
    if recorded != sink.stored_rows:
        problems.append(f"{sink.sink}: {recorded} rows were committed, but {sink.stored_rows} are stored")
    return problems
