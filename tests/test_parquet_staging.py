"""A chunk is committed once, whatever is repeated, raced, lost or damaged."""

import dataclasses
import errno
import gc
import json
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_etl.model import Chunk, ChunkRecord, ConvertedChunk, SpanCount
from beam_etl.parquet import staging as parquet_staging
from beam_etl.parquet.staging import ParquetStaging, safe_name
from beam_etl.storage import join_path, storage_for
from tests.crashing_storage import Crash, CrashingStorage
from tests.gcs_front import BUCKET, serve_gcs

HASH = "0123456789ab"
TABLE = pa.table({"n": [1, 2, 3], "t": ["a", None, "ç"]})


@pytest.fixture(scope="module")
def gcs_host() -> Iterator[str]:
    with serve_gcs() as (host, _):
        yield host


@pytest.fixture(params=["local", "gs"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "local":
        return str(tmp_path / "lake")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_host"))
    return f"gs://{BUCKET}/{tmp_path.name}"


def converted(chunk_id: str = "000001-00000000000042", table: str = "orders", rows: int = 3) -> ConvertedChunk:
    span = SpanCount(
        file_id=1, start=42, end=99, records=rows + 2, rejects=2, rejected_bytes=9, lines=rows + 3, skipped_lines=1
    )
    return ConvertedChunk(Chunk(table, chunk_id, ()), HASH, (span,), rejects_file="rejects/x.jsonl")


def files(output: str) -> list[str]:
    return [path[len(output) + 1 :] for path, _ in storage_for(output).list_files(output)]


def test_commit_writes_one_file_and_its_record(output: str) -> None:
    staging = ParquetStaging(output, "load1")
    record = staging.commit_chunk(converted(), TABLE)
    data = storage_for(output).read_bytes(join_path(output, record.file))
    assert record == ChunkRecord(
        load_id="load1",
        table="orders",
        schema_hash=HASH,
        chunk_id="000001-00000000000042",
        sink="parquet",
        spans=converted().spans,
        rows=3,
        rejects=2,
        file=record.file,
        file_bytes=len(data),
        checksum=f"{google_crc32c.value(data):08x}",
        rejects_file="rejects/x.jsonl",
    )
    assert pq.read_table(pa.BufferReader(data)).equals(TABLE)
    directory = f"_beam_etl/staging/load1/orders/{HASH}"
    assert files(output) == [record.file, f"{directory}/000001-00000000000042.json"]
    assert staging.staging_directory("orders", HASH) == f"{output}/{directory}"
    assert staging.read_record("orders", HASH, record.chunk_id) == record
    assert staging.read_records("orders", HASH) == [record]
    assert staging.count_rows([record]) == {record.chunk_id: 3}


def test_the_same_chunk_twice_is_one_file(output: str) -> None:
    first = ParquetStaging(output, "load1").commit_chunk(converted(), TABLE)
    second = ParquetStaging(output, "load1").commit_chunk(converted(), TABLE)
    assert second == first
    assert len(files(output)) == 2


def test_eight_workers_commit_one_chunk(output: str) -> None:
    start = threading.Barrier(8)

    def commit(_: int) -> ChunkRecord:
        start.wait()
        return ParquetStaging(output, "load1").commit_chunk(converted(), TABLE)

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(commit, range(8)))
    assert set(records) == {records[0]}
    assert files(output) == [records[0].file, records[0].file.rsplit("-", 1)[0] + ".json"]


def test_a_chunk_without_rows_has_a_record_and_no_file(output: str) -> None:
    staging = ParquetStaging(output, "load1")
    record = staging.commit_chunk(converted(rows=0), TABLE.slice(0, 0))
    assert (record.rows, record.file, record.file_bytes, record.checksum) == (0, "", 0, "")
    assert staging.commit_chunk(converted(rows=0), TABLE.slice(0, 0)) == record
    assert staging.read_record("orders", HASH, record.chunk_id) == record
    assert staging.read_records("orders", HASH) == [record]
    assert staging.count_rows([record]) == {record.chunk_id: 0}
    assert len(files(output)) == 1


@pytest.mark.parametrize("damage", ["missing", "cut short"])
@pytest.mark.parametrize("bulk", [False, True])
def test_a_damaged_file_loses_its_record_and_the_chunk_is_done_again(output: str, damage: str, bulk: bool) -> None:
    staging = ParquetStaging(output, "load1")
    whole = staging.commit_chunk(converted("000000-00000000000000"), TABLE)
    record = staging.commit_chunk(converted(), TABLE)
    path = join_path(output, record.file)
    if damage == "missing":
        storage_for(output).delete(path)
    else:
        storage_for(output).write_atomic(path, storage_for(output).read_bytes(path)[:-1])
    if bulk:
        assert staging.read_records("orders", HASH) == [whole]
    else:
        assert staging.read_record("orders", HASH, record.chunk_id) is None
    assert not any(name.endswith("000001-00000000000042.json") for name in files(output))
    again = staging.commit_chunk(converted(), TABLE)
    assert again.file != record.file
    assert staging.read_records("orders", HASH) == [whole, again]


def test_a_loser_whose_winner_is_damaged_commits_itself(output: str) -> None:
    staging = ParquetStaging(output, "load1")
    damaged = staging.commit_chunk(converted(), TABLE)
    storage_for(output).delete(join_path(output, damaged.file))
    record = staging.commit_chunk(converted(), TABLE)
    assert record.file != damaged.file
    assert staging.read_record("orders", HASH, record.chunk_id) == record


def test_records_of_other_keys_stay_apart(output: str) -> None:
    keys = [("l1", "a", HASH), ("l2", "a", HASH), ("l1", "b", HASH), ("l1", "a", "f" * 12)]
    for load_id, table, schema_hash in keys:
        chunk = dataclasses.replace(converted(table=table), schema_hash=schema_hash)
        ParquetStaging(output, load_id).commit_chunk(chunk, TABLE)
    for load_id, table, schema_hash in keys:
        records = ParquetStaging(output, load_id).read_records(table, schema_hash)
        assert [(r.load_id, r.table, r.schema_hash) for r in records] == [(load_id, table, schema_hash)]
    assert ParquetStaging(output, "l2").read_records("b", HASH) == []
    assert ParquetStaging(output, "l2").read_record("b", HASH, converted().chunk.chunk_id) is None
    ParquetStaging(output, "l1").drop_staging()
    ParquetStaging(output, "l1").drop_staging()
    assert {name.split("/")[2] for name in files(output)} == {"l2"}


def test_many_records_come_sorted(output: str) -> None:
    staging = ParquetStaging(output, "load1")
    ids = [f"{file:06d}-{start:014d}" for file in range(3) for start in (0, 9, 10)]
    for chunk_id in reversed(ids):
        staging.commit_chunk(converted(chunk_id), TABLE)
    records = staging.read_records("orders", HASH)
    assert [record.chunk_id for record in records] == ids
    assert staging.count_rows(records) == dict.fromkeys(ids, 3)


def test_rows_are_counted_in_the_files(output: str) -> None:
    staging = ParquetStaging(output, "load1")
    lies, gone = (staging.commit_chunk(converted(chunk_id), TABLE) for chunk_id in ("000001-1", "000002-2"))
    storage_for(output).delete(join_path(output, gone.file))
    assert staging.count_rows([dataclasses.replace(lies, rows=77), gone]) == {"000001-1": 3}
    storage_for(output).write_atomic(join_path(output, lies.file), b"PAR1 is what this is not")
    with pytest.raises(pa.ArrowInvalid):
        staging.count_rows([lies])


@pytest.mark.parametrize("after", [False, True])
def test_commit_is_completed_after_a_crash_at_every_step(
    output: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = 0
    for at in range(1, 99):
        staging = ParquetStaging(output, f"load{at}")
        storage = CrashingStorage(storage_for(output), at, after)
        with monkeypatch.context() as patch:
            patch.setattr(parquet_staging, "storage_for", lambda _, storage=storage: storage)
            try:
                staging.commit_chunk(converted(), TABLE)
            except Crash:
                crashes += 1
        record = staging.commit_chunk(converted(), TABLE)
        assert staging.read_records("orders", HASH) == [record]
        assert staging.count_rows([record]) == {record.chunk_id: 3}
        if storage.calls < at:
            break
    assert crashes == 2


def test_a_write_that_fails_for_a_moment_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, failures = os.fsync, [errno.EIO, errno.ETIMEDOUT]

    def failing(descriptor: int) -> None:
        if failures:
            raise OSError(failures.pop(), "not now")
        fsync(descriptor)

    (tmp_path / f"_beam_etl/staging/load1/orders/{HASH}").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr("beam_etl.storage.time.sleep", lambda _: None)
    record = ParquetStaging(str(tmp_path), "load1").commit_chunk(converted(), TABLE)
    assert failures == []
    assert files(str(tmp_path)) == [record.file, record.file.rsplit("-", 1)[0] + ".json"]


def test_a_committed_table_is_freed_at_once_without_a_garbage_collection(tmp_path: Path) -> None:
    staging = ParquetStaging(str(tmp_path), "load1")

    def land() -> int:
        table = pa.table({"n": pa.array(range(100_000), pa.int64())})
        assert staging.read_record("orders", HASH, "000001-00000000000042") is None
        return staging.commit_chunk(converted(), table).rows

    gc.collect()
    gc.disable()
    try:
        held_bytes = pa.total_allocated_bytes()
        assert land() == 100_000
        assert pa.total_allocated_bytes() == held_bytes
    finally:
        gc.enable()


def test_a_record_is_plain_json(tmp_path: Path) -> None:
    staging = ParquetStaging(str(tmp_path), "load1")
    record = staging.commit_chunk(converted(table="café"), TABLE)
    (path,) = (tmp_path / "_beam_etl").rglob("*.json")
    values = json.loads(path.read_bytes())
    assert values == json.loads(json.dumps(record.to_json()))
    assert values["table"] == "café"


def test_a_file_address_is_a_local_path(tmp_path: Path) -> None:
    address = (tmp_path / "my lake").as_uri()
    record = ParquetStaging(address, "load1").commit_chunk(converted(), TABLE)
    assert (tmp_path / "my lake" / record.file).is_file()
    assert ParquetStaging(str(tmp_path / "my lake"), "load1").read_records("orders", HASH) == [record]


def test_a_store_travels_to_workers() -> None:
    staging = ParquetStaging("gs://bucket/lake", "load1", "snappy")
    assert pickle.loads(pickle.dumps(staging)) == staging


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("orders", "orders"),
        ("Orders 2024.v-2~x_y", "Orders%202024.v-2~x_y"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".", "%2E"),
        ("_beam_etl", "%5Fbeam_etl"),
        ("k=v", "k%3Dv"),
        ("50%", "50%25"),
        ("50%25", "50%2525"),
        ("*?[]", "%2A%3F%5B%5D"),
        ("ñ名", "%C3%B1%E5%90%8D"),
        ("\udcff\x00", "%FF%00"),
    ],
)
def test_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_safe_name_of_long_names_is_short_and_their_own() -> None:
    names = ["名" * 63, "名" * 62 + "前", "x" * 160, "x" * 161, "x" * 162]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert max(map(len, safe)) == 160
    assert safe[2] == "x" * 160


def test_safe_name_refuses_no_name() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        safe_name("")
