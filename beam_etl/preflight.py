"""Whether a load could begin: every place it needs is looked at, in seconds, and nothing is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from beam_etl.config import EtlConfig
from beam_etl.loads.dry_run import BASE_MEMORY_BYTES, EXPANSION, plain_bytes, readable_sinks
from beam_etl.loads.holdings import read_holdings, select_files
from beam_etl.loads.plan import plan_chunk_bytes
from beam_etl.memory.system import available_memory_bytes, cgroup_limits, import_psutil
from beam_etl.model import SourceFile
from beam_etl.postgres.errors import PostgresError
from beam_etl.postgres.session import Connection
from beam_etl.sinks import SinkSettings
from beam_etl.sources.discovery import discover
from beam_etl.sources.table_names import TableRule
from beam_etl.storage import join_path, local_path, storage_for
from runners.table import place_for

Verdict = Literal["ok", "warn", "fail"]
MB = 1_000_000
# Rough shares of the plain text: Parquet of easily packed text, and what a load that goes well may need at most.
LEAST_PARQUET_RATIO = 0.1
USUAL_PARQUET_RATIO = 0.5
MOST_OPENED = 200


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and where it is not well, the remedy."""

    name: str
    verdict: Verdict
    found: str


def preflight(config: EtlConfig, beam_args: Sequence[str]) -> list[Check]:
    """Every check, whatever the others say."""
    rules = [TableRule(table.name, table.files) for table in config.tables]
    files: list[SourceFile] = []

    def inputs() -> tuple[Verdict, str]:
        files.extend(discover(config.input, rules, config.table))
        return _inputs(files)

    checks = [_checked("input", inputs), _checked("output", lambda: _writable(config.output))]
    if config.report is not None:
        checks.append(_checked("report", lambda: _writable(os.path.dirname(config.report or "") or ".")))  # noqa: PTH120
    checks.append(_checked("disk", lambda: _disk(config, files)))
    checks.append(_checked("memory", lambda: _memory(config, files)))
    if config.postgres is not None:
        checks.append(_checked("postgres", lambda: _postgres(config)))
    if checks[-1].verdict != "fail" and files:
        checks.append(_checked("tables", lambda: _tables(config, files)))
    checks.append(_checked("runner", lambda: _runner(config, beam_args)))
    return checks


def _checked(name: str, look: Callable[[], tuple[Verdict, str]]) -> Check:
    try:
        return Check(name, *look())
    except (OSError, PostgresError, RuntimeError, ValueError) as error:
        return Check(name, "fail", str(error))


def _inputs(files: Sequence[SourceFile]) -> tuple[Verdict, str]:
    total = sum({file.uri: file.size_bytes for file in files}.values())
    unreadable = []
    for uri in list(dict.fromkeys(file.uri for file in files))[:MOST_OPENED]:
        try:
            storage_for(uri).read_range(uri, 0, memoryview(bytearray(1)))
        except OSError as error:
            unreadable.append(f"{uri} ({error.strerror or error})")
    found = f"{len(files):,} files, {total / MB:,.1f} MB"
    if unreadable:
        return (
            "warn",
            f"{found}; {len(unreadable)} cannot be read, first {unreadable[0]}; mend them, or see --on_bad_file",
        )
    return "ok", found


def _writable(directory: str) -> tuple[Verdict, str]:
    """Whether files can be made if absent, and moved, which is what commits rest on."""
    probe, moved = (join_path(directory, f"_beam_etl/.preflight-{uuid.uuid4().hex}{end}") for end in ("", "-moved"))
    storage = storage_for(probe)
    with _without_new_directories(directory):
        try:
            first, second = storage.create_if_absent(probe, b"1"), storage.create_if_absent(probe, b"2")
            storage.move(probe, moved)
        except OSError as error:
            raise ValueError(
                f"{directory}: cannot be written ({error.strerror or error}); give a place in a directory that exists or "
                "can be made, and that this user may write"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                storage.delete_files([probe, moved])
    if not first or second:
        return "fail", f"{directory}: a file that exists can be made again, so commits are not safe there; use another"
    return "ok", f"{directory} can be written, files are made if absent and moved whole"


@contextlib.contextmanager
def _without_new_directories(directory: str) -> Iterator[None]:
    """Takes away the directories that come to be meanwhile, if they are empty."""
    if "://" in directory and not directory.startswith("file://"):
        yield
        return
    lowest = Path(local_path(directory)) / "_beam_etl"
    missing = [path for path in (lowest, *lowest.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _disk(config: EtlConfig, files: Sequence[SourceFile]) -> tuple[Verdict, str]:
    if "://" in config.output and not config.output.startswith("file://"):
        return "ok", "the output is no disk of this machine"
    place = Path(local_path(config.output)).absolute()
    place = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(place).free
    sizes = plain_bytes(files)
    unpacked = sum(sizes[file.file_id] for file in files if file.container != "none")
    least = unpacked + LEAST_PARQUET_RATIO * sum(sizes.values())
    usual = unpacked + USUAL_PARQUET_RATIO * sum(sizes.values())
    found = f"{free / MB:,.0f} MB free at {place}, up to about {usual / MB:,.0f} MB needed"
    if free < least:
        return "fail", f"{found}; free space, or choose another --output"
    return ("warn", f"{found}; free some space") if free < usual else ("ok", found)


def _memory(config: EtlConfig, files: Sequence[SourceFile]) -> tuple[Verdict, str]:
    cores = os.cpu_count() or 1
    chunk = min(plan_chunk_bytes(config, files, cores), max(sum(plain_bytes(files).values()), 1))
    needed = BASE_MEMORY_BYTES + EXPANSION * chunk
    available = available_memory_bytes(import_psutil(), cgroup_limits())
    if available is None:
        return "warn", "how much memory is available cannot be told; install psutil"
    found = f"{available / MB:,.0f} MB available, at least about {needed / MB:,.0f} MB needed"
    if available < needed:
        return "warn", f"{found}; end what else uses the machine, or give a smaller --chunk_mb"
    return "ok", found


def _postgres(config: EtlConfig) -> tuple[Verdict, str]:
    if str(config.postgres).startswith("embedded:"):
        return "ok", f"{config.postgres} is started by the load"
    store = SinkSettings("", "", postgres=config.postgres, postgres_schema=config.postgres_schema).open_postgres()
    assert store is not None, "there is a reference"
    try:
        server = store.check()
        most, used = store.run(_connections)
    finally:
        store.close()
    wanted = (os.cpu_count() or 1) + 2
    found = f"{server}, {used} of {most} connections in use"
    if most - used < wanted:
        return "warn", f"{found}, and a load wants {wanted}; raise max_connections, or end idle sessions"
    return "ok", found


def _connections(connection: Connection) -> tuple[int, int]:
    most, used = connection.execute(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int"
    ).fetchone() or (0, 0)
    return most, used


def _tables(config: EtlConfig, files: Sequence[SourceFile]) -> tuple[Verdict, str]:
    names = sorted({file.table for file in files})
    sinks, notes = readable_sinks(config)
    holdings = read_holdings(names, sinks)
    select_files(config, files, holdings)
    there = [name for name in names if any(state.exists for state in holdings.tables[name])]
    return "ok", "; ".join([f"{len(names)} tables, {len(there)} of them there already", *notes])


def _runner(config: EtlConfig, beam_args: Sequence[str]) -> tuple[Verdict, str]:
    problems = place_for(config.runner).check(beam_args)
    return ("fail", " ".join(problems)) if problems else ("ok", f"{config.runner} is ready as far as can be told")
