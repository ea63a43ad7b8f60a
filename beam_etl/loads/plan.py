"""The frozen plan of a load: which bytes go to which tables, cut how, under which load_id.

Everything downstream is a pure function of the plan and the bytes, so a load that is resumed later, on another machine,
with other memory, cuts and names everything the same.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beam_etl.config import EtlConfig, Mode, TableConfig
from beam_etl.model import SourceFile
from beam_etl.schema import TableSchema
from beam_etl.storage import storage_for

# Raised whenever the kernels would read, cut or type the same bytes otherwise, or commit records would hold other fields:
# a load never mixes two ways of reading, and never resumes from records that it cannot read.
KERNEL_VERSION = 3

MIN_CHUNK_BYTES = 1 << 20
MAX_CHUNK_BYTES = 24 << 20
MIN_CHUNKS_PER_CORE = 4


@dataclasses.dataclass(frozen=True)
class TableBase:
    """What a table holds before the load, where that decides what the load does.

    Attributes:
      load_id: the last load that was published into it; "" where there is no table.
      schema: of the table; None where there is none.
    """

    load_id: str = ""
    schema: TableSchema | None = None

    def to_json(self) -> dict[str, Any]:
        return {"load_id": self.load_id, "schema": self.schema and self.schema.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TableBase:
        schema = values["schema"]
        return cls(values["load_id"], None if schema is None else TableSchema.from_json(schema))


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a new load is to do, given what the tables hold.

    Attributes:
      files: to be loaded; file_id is the position.
      skipped: what the tables hold already.
      bases: table -> what it holds, of the tables of the files whose mode is not replace.
    """

    files: tuple[SourceFile, ...]
    skipped: tuple[SourceFile, ...] = ()
    bases: Mapping[str, TableBase] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LoadPlan:
    """What one load does.

    Attributes:
      load_id: "<plan_key>-<generation>"; names the load everywhere.
      plan_key: hash of files, versions and the configuration that decides what lands; the same command has the same key.
      created: ISO time of freezing, UTC.
      chunk_bytes: size up to which spans are cut and packed.
      max_record_bytes: longest record accepted.
      postgres: whether PostgreSQL is a sink (never where: a plan holds no address and no credentials).
      files: the planned files; file_id is the position.
      tables: what is declared of each table that has files, as in job.yaml.
      skipped: files that were found and not planned, because their tables hold them already.
      bases: table -> what it held when the load was planned, where its mode is not replace.
    """

    load_id: str
    plan_key: str
    created: str
    chunk_bytes: int
    max_record_bytes: int
    postgres: bool
    files: tuple[SourceFile, ...]
    tables: tuple[TableConfig, ...]
    skipped: tuple[SourceFile, ...] = ()
    bases: Mapping[str, TableBase] = dataclasses.field(default_factory=dict)

    def mode_of(self, table: str) -> Mode:
        return next(declared.mode for declared in self.tables if declared.name == table) or "replace"

    def key_of(self, table: str) -> tuple[str, ...]:
        """The columns that name a row of the table; () unless its mode is upsert."""
        declared = next(declared for declared in self.tables if declared.name == table)
        return declared.key if declared.mode == "upsert" else ()

    def files_of(self, table: str) -> list[SourceFile]:
        return [file for file in self.files if file.table == table]

    def to_bytes(self) -> bytes:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["files"] = [dataclasses.asdict(file) for file in self.files]
        values["tables"] = [table.model_dump(mode="json") for table in self.tables]
        values["skipped"] = [dataclasses.asdict(file) for file in self.skipped]
        values["bases"] = {name: base.to_json() for name, base in self.bases.items()}
        return json.dumps(values, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> LoadPlan:
        values = json.loads(data)
        values["files"] = tuple(SourceFile(**file) for file in values["files"])
        values["tables"] = tuple(TableConfig.model_validate(table) for table in values["tables"])
        values["skipped"] = tuple(SourceFile(**file) for file in values["skipped"])
        values["bases"] = {name: TableBase.from_json(base) for name, base in values["bases"].items()}
        return cls(**values)


def load_directory(output: str, load_id: str) -> str:
    return f"{output.rstrip('/')}/_beam_etl/loads/{load_id}"


def read_plan(output: str, load_id: str) -> LoadPlan:
    path = f"{load_directory(output, load_id)}/plan.json"
    return LoadPlan.from_bytes(storage_for(path).read_bytes(path))


def read_report(output: str, load_id: str) -> dict[str, Any] | None:
    """The load's report, or None while it has none."""
    path = f"{load_directory(output, load_id)}/report.json"
    storage = storage_for(path)
    if storage.stat(path) is None:
        return None
    report: dict[str, Any] = json.loads(storage.read_bytes(path))
    return report


def plan_key(config: EtlConfig, files: Sequence[SourceFile]) -> str:
    """Hash of everything that decides which values land where, and of nothing else.

    The files are all that were found, those that a table holds already among them: so the same command has the same key
    before and after its load.

    Policies of publishing (max_reject_ratio, on_bad_file) are left out on purpose: after a refused publish, the same
    command with a wider policy resumes the load and publishes what is staged. Derived sizes are left out too, because
    another machine would derive others and must still find the load it resumes.
    """
    names = {file.table for file in files}
    decisive = {
        "kernel_version": KERNEL_VERSION,
        "files": [dataclasses.asdict(file) for file in files],
        "tables": [config.table_config(name).model_dump(mode="json") for name in sorted(names)],
        "dialect": config.dialect.model_dump(mode="json"),
        "max_record_bytes": config.max_record_bytes,
        "chunk_mb": config.chunk_mb,
        "postgres": config.postgres is not None,
        "postgres_schema": config.postgres_schema,
        "codec": [config.parquet_codec, config.parquet_codec_level],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def plan_chunk_bytes(config: EtlConfig, files: Sequence[SourceFile], cores: int) -> int:
    """Chunk size in bytes: large enough to be cheap, small enough that memory is bounded and every core gets several.

    One large file makes as many chunks for each core: a last one alone would keep one core busy and the others idle.
    """
    if config.chunk_mb is not None:
        return config.chunk_mb << 20
    total_bytes = sum(file.size_bytes for file in files)
    chunks_per_core = max(MIN_CHUNKS_PER_CORE, -(-total_bytes // (cores * MAX_CHUNK_BYTES)))
    return max(MIN_CHUNK_BYTES, -(-total_bytes // (cores * chunks_per_core)))


def freeze_plan(
    config: EtlConfig,
    files: Sequence[SourceFile],
    cores: int,
    select: Callable[[], Selection],
    is_current: Callable[[LoadPlan], bool],
    may_resume: Callable[[LoadPlan], bool],
) -> LoadPlan:
    """The plan of this load, durable; an unfinished load with the same plan_key is resumed, a finished one found again.

    Generations of one plan_key are numbered: A, then B, then A again is a new generation of A, because the first one is
    no longer what the tables hold. Two launchers that freeze at the same time get the same plan: the first one's.

    Args:
      files: all that were found.
      select: what a new load would have to do.
      is_current: whether a finished load is what its tables hold now.
      may_resume: whether the tables are still what an unfinished load was planned on.

    Raises:
      ValueError: whatever select raises; nothing was planned then.
    """
    key = plan_key(config, files)
    generation = 0
    while True:
        load_id = f"{key}-{generation:03d}"
        path = f"{load_directory(config.output, load_id)}/plan.json"
        storage = storage_for(path)
        if storage.stat(path) is None:
            plan = _new_plan(config, load_id, key, cores, select())
            storage.create_if_absent(path, plan.to_bytes())
            return read_plan(config.output, load_id)
        if not config.force:
            frozen, report = read_plan(config.output, load_id), read_report(config.output, load_id)
            finished = report is not None and report["published"]
            if is_current(frozen) if finished else may_resume(frozen):
                return frozen
        generation += 1


def _new_plan(config: EtlConfig, load_id: str, key: str, cores: int, selection: Selection) -> LoadPlan:
    return LoadPlan(
        load_id=load_id,
        plan_key=key,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        chunk_bytes=plan_chunk_bytes(config, selection.files, cores),
        max_record_bytes=config.max_record_bytes,
        postgres=config.postgres is not None,
        files=selection.files,
        tables=tuple(config.table_config(name) for name in sorted({file.table for file in selection.files})),
        skipped=selection.skipped,
        bases=selection.bases,
    )
