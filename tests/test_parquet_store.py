"""A published table is exactly one load's files, from whatever crash, repetition or predecessor it comes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from beam_etl.loads.holder import Holder
from beam_etl.loads.leases import LakeLeases
from beam_etl.loads.table_state import LeaseLostError, PublishTerms, TableChangedError, TableState
from beam_etl.model import Chunk, ChunkRecord, ConvertedChunk, SourceFile, SpanCount
from beam_etl.parquet import staging as parquet_staging
from beam_etl.parquet.store import ParquetStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema
from beam_etl.storage import join_path, storage_for
from tests.crashing_storage import Crash, CrashingStorage
from tests.gcs_front import BUCKET, serve_gcs

SCHEMA = TableSchema((ColumnSchema("n", ColumnType("bigint")), ColumnSchema("t", ColumnType("string"))))
BOOKS = {"records": 6, "rejects": 0}


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


def stage(output: str, load_id: str, table: str = "orders", chunks: int = 3, rows: int = 2) -> list[ChunkRecord]:
    store = ParquetStore(output, load_id)
    for i in range(chunks):
        span = SpanCount(file_id=i, start=0, end=9, records=rows, rejects=0, rejected_bytes=0, lines=rows)
        chunk = ConvertedChunk(Chunk(table, f"{i:06d}-{0:014d}", ()), SCHEMA.hash, (span,))
        store.commit_chunk(chunk, pa.table({"n": [i] * rows, "t": [load_id] * rows}, schema=SCHEMA.arrow))
    return store.read_records(table, SCHEMA.hash)


def publish(output: str, load_id: str, table: str = "orders", **named: Any) -> str:
    records = ParquetStore(output, load_id).read_records(table, SCHEMA.hash)
    return ParquetStore(output, load_id).publish(table, SCHEMA, records, BOOKS, **named)


def tree(output: str) -> dict[str, bytes]:
    storage = storage_for(output)
    return {path[len(output) + 1 :]: storage.read_bytes(path) for path, _ in storage.list_files(output)}


def outside_staging(output: str) -> dict[str, bytes]:
    return {name: data for name, data in tree(output).items() if not name.startswith("_beam_etl/staging/")}


def names(output: str, below: str) -> list[str]:
    start = len(below) + 1
    return [name[start:] for name in tree(output) if name.startswith(below + "/")]


def published(load_id: str, chunks: int = 3) -> list[str]:
    return ["_SUCCESS", *(f"{load_id}-{i:06d}-{0:014d}.parquet" for i in range(chunks))]


def test_publish_moves_the_files_and_says_what_the_table_is(output: str) -> None:
    records = stage(output, "load1")
    path = publish(output, "load1")
    assert path == f"{output}/_beam_etl/manifests/orders/0000000001.json"
    store = ParquetStore(output, "load1")
    assert store.current_manifest("orders") == {
        "load_id": "load1",
        "table": "orders",
        "sequence": 1,
        "mode": "replace",
        "token": 0,
        "schema": json.loads(json.dumps(SCHEMA.to_json())),
        "files": [
            {
                "name": f"load1-{record.chunk_id}.parquet",
                "chunk_id": record.chunk_id,
                "rows": 2,
                "bytes": record.file_bytes,
                "checksum": record.checksum,
            }
            for record in records
        ],
        "loads": ["load1"],
        "sources": [],
        "books": BOOKS,
        "previous": None,
    }
    assert names(output, "orders") == published("load1")
    assert names(output, "_beam_etl/manifests/orders") == ["0000000001.json", "load1.load"]
    assert tree(output)["orders/_SUCCESS"] == b"load1\n"
    assert store.published_load("orders") == "load1"
    assert store.count_rows(records) == {record.chunk_id: 2 for record in records}
    assert store.read_records("orders", SCHEMA.hash) == records


def test_readers_find_the_table(tmp_path: Path) -> None:
    stage(str(tmp_path), "load1", table="café = 50%/x")
    publish(str(tmp_path), "load1", table="café = 50%/x")
    directory = tmp_path / "caf%C3%A9%20%3D%2050%25%2Fx"
    rows = [(i, "load1") for i in (0, 0, 1, 1, 2, 2)]
    columns = {"n": [n for n, _ in rows], "t": [t for _, t in rows]}
    assert ds.dataset(directory, format="parquet").to_table().sort_by("n").to_pydict() == columns
    assert pl.scan_parquet(directory / "*.parquet").sort("n").collect().to_dict(as_series=False) == columns
    query = "SELECT * FROM read_parquet(?) ORDER BY n"
    assert duckdb.sql(query, params=[f"{directory}/*.parquet"]).fetchall() == rows


def test_the_next_load_replaces_the_last(output: str) -> None:
    stage(output, "load1", chunks=4)
    publish(output, "load1")
    stage(output, "load2")
    publish(output, "load2")
    store = ParquetStore(output, "any")
    manifest = store.current_manifest("orders")
    assert manifest is not None
    assert (manifest["load_id"], manifest["sequence"], manifest["previous"]) == ("load2", 2, "0000000001.json")
    assert names(output, "orders") == published("load2")
    assert store.published_load("orders") == "load2"


def test_publishing_again_changes_nothing(output: str) -> None:
    stage(output, "load1")
    path = publish(output, "load1")
    before = tree(output), outside_staging(output)
    assert publish(output, "load1") == path
    assert tree(output) == before[0]
    ParquetStore(output, "load1").drop_staging()
    assert publish(output, "load1") == path
    assert tree(output) == before[1]


def test_a_superseded_load_changes_nothing(output: str) -> None:
    stage(output, "load1")
    path = publish(output, "load1")
    stage(output, "load2")
    publish(output, "load2")
    before = outside_staging(output)
    assert publish(output, "load1") == path
    assert outside_staging(output) == before


def test_two_publishers_of_one_load_at_once(output: str) -> None:
    stage(output, "load1", chunks=8)
    records = ParquetStore(output, "load1").read_records("orders", SCHEMA.hash)

    def attempt(_: int) -> str:
        return ParquetStore(output, "load1").publish("orders", SCHEMA, records, BOOKS)

    with ThreadPoolExecutor(2) as pool:
        paths = set(pool.map(attempt, range(2)))
    assert paths == {f"{output}/_beam_etl/manifests/orders/0000000001.json"}
    assert names(output, "orders") == published("load1", 8)
    assert ParquetStore(output, "load1").published_load("orders") == "load1"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("chunks", [3, 0])
def test_publish_is_completed_after_a_crash_at_every_step(
    output: str, after: bool, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(root: str) -> None:
        stage(root, "load1", chunks=2)
        publish(root, "load1")
        ParquetStore(root, "load1").drop_staging()
        stage(root, "load2", chunks=chunks)

    undisturbed = join_path(output, "undisturbed")
    prepare(undisturbed)
    publish(undisturbed, "load2")
    expected = outside_staging(undisturbed)
    crashes = 0
    for at in range(1, 99):
        root = join_path(output, f"crash{at}")
        prepare(root)
        storage = CrashingStorage(storage_for(root), at, after)
        with monkeypatch.context() as patch:
            patch.setattr(parquet_staging, "storage_for", lambda _, storage=storage: storage)
            try:
                publish(root, "load2")
            except Crash:
                crashes += 1
        publish(root, "load2")
        assert outside_staging(root) == expected
        assert ParquetStore(root, "load2").published_load("orders") == "load2"
        if storage.calls < at:
            break
    # The marker, _SUCCESS away, the moves or the empty file, the manifest, old files away, _SUCCESS.
    assert crashes == 6


def test_crash_within_the_moves_is_completed(output: str) -> None:
    records = stage(output, "load1")
    storage = storage_for(output)
    name = f"load1-{records[1].chunk_id}.parquet"
    storage.write_atomic(f"{output}/_beam_etl/manifests/orders/load1.load", b"0")
    storage.move(join_path(output, records[1].file), f"{output}/orders/{name}")
    store = ParquetStore(output, "load1")
    assert store.read_record("orders", SCHEMA.hash, records[1].chunk_id) == records[1]
    assert store.read_records("orders", SCHEMA.hash) == records
    assert store.count_rows(records) == {record.chunk_id: 2 for record in records}
    publish(output, "load1")
    assert names(output, "orders") == published("load1")


def test_leftovers_of_a_load_that_was_given_up_are_removed(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(output, "load1")
    storage = CrashingStorage(storage_for(output), at=4, after=False)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(parquet_staging, "storage_for", lambda _: storage)
        publish(output, "load1")
    assert names(output, "orders") == published("load1")[1:]
    assert ParquetStore(output, "any").current_manifest("orders") is None
    assert ParquetStore(output, "any").published_load("orders") is None
    stage(output, "load2")
    publish(output, "load2")
    assert names(output, "orders") == published("load2")
    assert names(output, "_beam_etl/manifests/orders") == ["0000000001.json", "load1.load", "load2.load"]


# The calls of publish that change something: 1 the marker, 2 _SUCCESS away, 3 the moves, 4 the manifest, 5 old files away,
# 6 _SUCCESS.
@pytest.mark.parametrize(
    ("crash_before", "whole"), [(1, "load1"), (2, "load1"), (3, None), (4, None), (5, None), (6, None)]
)
def test_published_load_is_the_load_that_is_whole(
    output: str, crash_before: int, whole: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(output, "load1")
    publish(output, "load1")
    stage(output, "load2")
    storage = CrashingStorage(storage_for(output), crash_before, after=False)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(parquet_staging, "storage_for", lambda _: storage)
        publish(output, "load2")
    assert ParquetStore(output, "any").published_load("orders") == whole
    publish(output, "load2")
    assert ParquetStore(output, "any").published_load("orders") == "load2"


def test_published_load_is_none_when_a_file_is_gone(output: str) -> None:
    stage(output, "load1")
    publish(output, "load1")
    storage_for(output).delete(f"{output}/orders/{published('load1')[2]}")
    assert ParquetStore(output, "load1").published_load("orders") is None
    with pytest.raises(FileNotFoundError, match=r"load1-000001-0+\.parquet of load load1 is missing"):
        publish(output, "load1")


def test_a_table_without_rows_still_has_its_columns(output: str) -> None:
    stage(output, "load1", chunks=2, rows=0)
    publish(output, "load1")
    assert names(output, "orders") == ["_SUCCESS", "load1-empty.parquet"]
    data = pa.BufferReader(tree(output)["orders/load1-empty.parquet"])
    assert pq.read_table(data).equals(SCHEMA.arrow.empty_table())
    assert ParquetStore(output, "load1").published_load("orders") == "load1"
    stage(output, "load2", chunks=1)
    publish(output, "load2")
    assert names(output, "orders") == published("load2", 1)


@pytest.mark.parametrize(
    "foreign", ["part-0.parquet", "load9-000000-00000000000000.parquet", "year=2024/x.csv", "_log"]
)
def test_files_of_others_are_never_touched(output: str, foreign: str) -> None:
    stage(output, "load1")
    publish(output, "load1")
    stage(output, "load2")
    storage_for(output).write_atomic(f"{output}/orders/{foreign}", b"precious")
    before = tree(output)
    for load_id in ("load2", "load1"):
        with pytest.raises(ValueError, match=r"was not written by beam_etl.*move it away") as caught:
            publish(output, load_id)
        assert f"{output}/orders/{foreign}" in str(caught.value)
    assert tree(output) == before


def test_hidden_files_of_others_are_left_alone(output: str) -> None:
    storage_for(output).write_atomic(f"{output}/orders/.DS_Store", b"?")
    for load_id in ("load1", "load2"):
        stage(output, load_id)
        publish(output, load_id)
    assert names(output, "orders") == [".DS_Store", *published("load2")]


def test_the_order_of_postgres_is_kept(output: str) -> None:
    stage(output, "load2")
    publish(output, "load2")
    stage(output, "load1")
    before = tree(output)
    with pytest.raises(ValueError, match="holds load load2, which PostgreSQL has published after load load1; start a"):
        publish(output, "load1", later_loads=["load2", "load3"])
    assert tree(output) == before
    publish(output, "load1", later_loads=["load3"])


def test_a_damaged_staged_file_is_not_published(output: str) -> None:
    records = stage(output, "load1")
    storage_for(output).write_atomic(join_path(output, records[1].file), b"short")
    before = tree(output)
    with pytest.raises(
        FileNotFoundError, match=r"000001-0+-[0-9a-f]{8}\.parquet is missing or damaged; run load load1"
    ):
        ParquetStore(output, "load1").publish("orders", SCHEMA, records, BOOKS)
    assert tree(output) == before


def test_records_that_do_not_belong_together_are_refused(output: str) -> None:
    records = stage(output, "load1")
    store = ParquetStore(output, "load1")
    other = TableSchema(SCHEMA.columns[:1])
    with pytest.raises(ValueError, match="several records"):
        store.publish("orders", SCHEMA, [*records, records[0]], BOOKS)
    for attempt in (
        lambda: store.publish("orders", other, records, BOOKS),
        lambda: store.publish("items", SCHEMA, records, BOOKS),
        lambda: ParquetStore(output, "load2").publish("orders", SCHEMA, records, BOOKS),
    ):
        with pytest.raises(ValueError, match=r"000000-0+ belongs to"):
            attempt()
    assert outside_staging(output) == {}


def test_tables_and_loads_of_any_name_stay_apart(output: str) -> None:
    tables = ["a", "a/b", "_beam_etl", "..", "名" * 80, "a%2Fb", "_SUCCESS"]
    for table in tables:
        stage(output, "../load 1", table=table, chunks=1)
        publish(output, "../load 1", table=table)
    store = ParquetStore(output, "../load 1")
    assert [store.published_load(table) for table in tables] == ["../load 1"] * len(tables)
    manifests = [
        json.loads(data) for name, data in tree(output).items() if "/manifests/" in name and name.endswith(".json")
    ]
    assert {manifest["table"] for manifest in manifests} == set(tables)
    assert len({name.split("/")[0] for name in tree(output)}) == len(tables) + 1


# --- append and fail_if_exists


def append(output: str, load_id: str, base: str, **named: Any) -> str:
    source = SourceFile(0, f"{load_id}.csv", "", "orders", 9, "9-1")
    return publish(output, load_id, terms=PublishTerms("append", base, (source,), **named))


def test_append_adds_files_and_leaves_the_others_alone(output: str) -> None:
    stage(output, "load1")
    append(output, "load1", base="")
    before = tree(output)
    stage(output, "load2", chunks=2)
    path = append(output, "load2", base="load1")
    store = ParquetStore(output, "any")
    assert names(output, "orders") == published("load1") + published("load2", 2)[1:]
    assert {name: tree(output)[name] for name in before if name != "orders/_SUCCESS"} == {
        name: data for name, data in before.items() if name != "orders/_SUCCESS"
    }
    manifest = store.current_manifest("orders")
    assert manifest is not None
    assert [file["name"] for file in manifest["files"]] == names(output, "orders")[1:]
    assert (manifest["loads"], manifest["mode"]) == (["load1", "load2"], "append")
    assert [source["uri"] for source in manifest["sources"]] == ["load1.csv", "load2.csv"]
    state = store.state("orders")
    assert (state.loads, state.whole, state.finished) == (("load1", "load2"), True, True)
    assert set(state.files.values()) == {"9-1"} and len(state.files) == 2
    before = tree(output)
    for load_id, base in (("load2", "load1"), ("load1", ""), ("load2", "load1")):
        append(output, load_id, base)
    assert tree(output) == before
    assert ParquetStore(output, "load2").published_manifest("orders") == path


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("chunks", [3, 0])
def test_append_is_completed_after_a_crash_at_every_step(
    output: str, after: bool, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(root: str) -> None:
        stage(root, "load1", chunks=2)
        publish(root, "load1")
        ParquetStore(root, "load1").drop_staging()
        stage(root, "load2", chunks=chunks)

    undisturbed = join_path(output, "undisturbed")
    prepare(undisturbed)
    append(undisturbed, "load2", base="load1")
    expected = outside_staging(undisturbed)
    crashes = 0
    for at in range(1, 99):
        root = join_path(output, f"crash{at}")
        prepare(root)
        first = {
            name: data for name, data in tree(root).items() if name.endswith(".parquet") and "/orders/" not in name
        }
        storage = CrashingStorage(storage_for(root), at, after)
        with monkeypatch.context() as patch:
            patch.setattr(parquet_staging, "storage_for", lambda _, storage=storage: storage)
            try:
                append(root, "load2", base="load1")
            except Crash:
                crashes += 1
        assert first.items() <= tree(root).items(), "nothing of the table is ever missing"
        append(root, "load2", base="load1")
        assert outside_staging(root) == expected
        assert ParquetStore(root, "load2").published_load("orders") == "load2"
        if storage.calls < at:
            break
    # The marker, _SUCCESS away, the moves if there are any, the manifest, _SUCCESS.
    assert crashes == (5 if chunks else 4)


def test_a_table_that_gets_columns_without_rows_still_shows_them(output: str) -> None:
    stage(output, "load1")
    publish(output, "load1")
    wider = TableSchema((*SCHEMA.columns, ColumnSchema("more", ColumnType("date"))))
    store = ParquetStore(output, "load2")
    store.publish("orders", wider, [], BOOKS, PublishTerms("append", "load1"))
    assert names(output, "orders") == [*published("load1"), "load2-empty.parquet"]
    assert store.state("orders").schema == wider


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        (PublishTerms("append", ""), "planned on no table, but now there is the table of load load1"),
        (
            PublishTerms("append", "load0"),
            "planned on the table of load load0, but now there is the table of load load1",
        ),
        (PublishTerms("fail_if_exists", ""), "mode fail_if_exists was planned on no table"),
    ],
)
def test_a_table_that_is_not_what_a_load_was_planned_on_is_left_alone(
    output: str, terms: PublishTerms, complaint: str
) -> None:
    stage(output, "load1")
    publish(output, "load1")
    stage(output, "load2")
    before = tree(output)
    with pytest.raises(TableChangedError, match=f"{complaint}.*run the same command again"):
        publish(output, "load2", terms=terms)
    assert tree(output) == before


def test_of_two_loads_that_saw_the_same_table_one_is_published(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(output, "load1")
    publish(output, "load1")
    stage(output, "load2")
    stage(output, "load3")
    staged = {name for name in tree(output) if "staging/load3" in name}
    original = ParquetStore._create_manifest

    def overtaken(self: ParquetStore, *arguments: Any) -> Any:
        monkeypatch.setattr(ParquetStore, "_create_manifest", original)
        append(output, "load2", base="load1", token=1)
        return original(self, *arguments)

    monkeypatch.setattr(ParquetStore, "_create_manifest", overtaken)
    with pytest.raises(TableChangedError, match="load load2 was published while load load3 was on its way"):
        append(output, "load3", base="load1", token=2)
    assert {name for name in tree(output) if "staging/load3" in name} == staged, "it took its files back"
    append(output, "load3", base="load2")
    assert ParquetStore(output, "any").state("orders").loads == ("load1", "load2", "load3")
    assert names(output, "orders") == [*published("load1"), *published("load2")[1:], *published("load3")[1:]]


def test_many_loads_at_once_are_published_one_by_one_or_refused(output: str) -> None:
    loads = [f"load{number}" for number in range(6)]
    for load_id in loads:
        stage(output, load_id, chunks=1)

    def attempt(load_id: str) -> bool:
        try:
            append(output, load_id, base="", token=1 + loads.index(load_id))
        except (TableChangedError, FileNotFoundError):
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        outcomes = dict(zip(loads, pool.map(attempt, loads), strict=True))
    [winner] = [load_id for load_id, published_it in outcomes.items() if published_it]
    manifest = ParquetStore(output, "any").current_manifest("orders")
    assert manifest is not None
    assert (manifest["loads"], manifest["sequence"]) == ([winner], 1)
    for load_id in loads:
        if load_id != winner:
            base = ParquetStore(output, "any").state("orders").last_load
            stage(output, load_id, chunks=1)  # whose files the winner took for remains of a zombie starts again
            append(output, load_id, base=base)
    assert len(names(output, "orders")) == 7


def test_who_has_lost_the_lease_is_not_published(output: str) -> None:
    leases = [LakeLeases(output, Holder(owner, owner, "elsewhere", "", 1)) for owner in ("first", "second")]
    token = leases[0].claim("orders", 30.0)
    assert isinstance(token, int)
    stage(output, "load1")
    append(output, "load1", base="", token=token)
    leases[0].release("orders", token)
    later = leases[1].claim("orders", 30.0)
    assert isinstance(later, int)
    stage(output, "load2")
    before = tree(output)
    with pytest.raises(LeaseLostError, match=f"has taken the lease .token {later}, this run had {token}"):
        append(output, "load2", base="load1", token=token)
    assert tree(output) == before
    append(output, "load2", base="load1", token=later)


@pytest.mark.parametrize(("token", "stays"), [(6, True), (7, False)])
def test_files_of_a_later_holder_of_the_lease_are_its_beginnings(output: str, token: int, stays: bool) -> None:
    beginnings = "load2-000000-00000000000000.parquet"
    storage_for(output).write_atomic(f"{output}/_beam_etl/manifests/orders/load2.load", b"7")
    storage_for(output).write_atomic(f"{output}/orders/{beginnings}", b"on its way")
    stage(output, "load1")
    publish(output, "load1", terms=PublishTerms(token=token))
    assert (beginnings in names(output, "orders"), "_SUCCESS" in names(output, "orders")) == (stays, not stays)
    storage_for(output).delete(f"{output}/orders/{beginnings}")
    ParquetStore(output, "any").complete("orders")
    assert names(output, "orders") == published("load1")


def test_a_table_whose_files_were_all_removed_is_none(output: str) -> None:
    stage(output, "load1")
    publish(output, "load1")
    for name in names(output, "orders"):
        storage_for(output).delete(f"{output}/orders/{name}")
    assert ParquetStore(output, "any").state("orders") == TableState()
    stage(output, "load2")
    append(output, "load2", base="")
    assert ParquetStore(output, "any").state("orders").loads == ("load2",)


def test_a_table_with_missing_files_is_not_added_to(output: str) -> None:
    stage(output, "load1")
    publish(output, "load1")
    storage_for(output).delete(f"{output}/orders/{published('load1')[2]}")
    stage(output, "load2")
    before = tree(output)
    with pytest.raises(FileNotFoundError, match=r"of load load1 is missing or damaged; restore it, or replace"):
        append(output, "load2", base="load1")
    assert tree(output) == before
