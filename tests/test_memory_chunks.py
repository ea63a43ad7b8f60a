"""beam_etl.memory.chunks: every row once and in order, chunks that shrink, and no more memory than they need."""

import logging

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import beam_etl.memory.chunks
import beam_etl.memory.monitor
from beam_etl.memory.chunks import process_in_chunks
from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel

NORMAL, WARNING, CRITICAL, EMERGENCY = MemoryPressureLevel


class Pressure(MemoryMonitor):
    """A monitor that reports given levels one after the other, the last one for ever."""

    def __init__(self, *levels: MemoryPressureLevel):
        super().__init__()
        self.levels = list(levels)

    def check_memory_pressure(self, *, fresh: bool = False) -> MemoryPressureLevel:
        return self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]


def numbers(rows: int) -> pa.Table:
    return pa.table({"n": pa.array(range(rows), pa.int64()), "t": [str(n) for n in range(rows)]})


def sizes(dataset, rows: int, *levels: MemoryPressureLevel, **knobs) -> list[int]:
    monitor = Pressure(*(levels or (NORMAL,)))
    return [chunk.num_rows for chunk in process_in_chunks(dataset, rows, memory_monitor=monitor, **knobs)]


@given(
    st.lists(st.integers(0, 30), max_size=6),
    st.integers(1, 40),
)
def test_any_layout_in_any_chunks(layout, rows):
    parts, start = [], 0
    for length in layout:
        parts.append(pa.array(range(start, start + length), pa.int64()))
        start += length
    table = pa.table({"n": pa.chunked_array(parts, pa.int64())})
    for source in (table, ds.dataset(table)):
        chunks = list(process_in_chunks(source, rows, memory_monitor=Pressure(NORMAL)))
        assert [n for chunk in chunks for n in chunk["n"].to_pylist()] == list(range(start))
        full, rest = divmod(start, rows)
        assert [chunk.num_rows for chunk in chunks] == [rows] * full + [rest] * bool(rest)
        assert all(chunk.schema == table.schema for chunk in chunks)


@pytest.mark.parametrize("form", ["parquet", "csv", "table"])
def test_files_and_tables(tmp_path, form):
    table = numbers(2500)
    if form == "parquet":
        pq.write_table(table.slice(0, 1000), tmp_path / "a.parquet", row_group_size=300)
        pq.write_table(table.slice(1000), tmp_path / "b.parquet")
    elif form == "csv":
        pa.csv.write_csv(table, tmp_path / "a.csv")
    schema = pa.schema([("n", pa.int64()), ("t", pa.string())])
    source = table if form == "table" else ds.dataset(tmp_path, format=form, schema=schema)
    seen = []
    chunks = list(process_in_chunks(source, 700, progress_callback=lambda *progress: seen.append(progress)))
    assert pa.concat_tables(chunks).equals(table)
    assert [chunk.num_rows for chunk in chunks] == [700, 700, 700, 400]
    total = None if form == "csv" else 2500  # to count a CSV file's rows is to read it
    assert seen == [(700, total), (1400, total), (2100, total), (2500, total)]


@pytest.mark.parametrize("source", [numbers(0), ds.dataset(numbers(0))], ids=["table", "dataset"])
def test_nothing_gives_nothing(source):
    assert sizes(source, 10) == []


@pytest.mark.parametrize(
    "levels, expected",
    [
        ([NORMAL], [4000, 4000, 2000]),
        ([WARNING], [4000, 4000, 2000]),
        ([NORMAL, CRITICAL, NORMAL], [4000, 2000, 2000, 2000]),
        ([CRITICAL], [2000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000]),
        ([EMERGENCY, NORMAL], [2000, 2000, 2000, 2000, 2000]),
    ],
)
def test_chunks_shrink(levels, expected):
    assert sizes(numbers(10_000), 4000, *levels) == expected


def test_small_chunks_stay_as_they_are():
    assert sizes(numbers(1000), 500, CRITICAL) == [500, 500]


@pytest.mark.parametrize("level, releases", [(NORMAL, 0), (WARNING, 3), (CRITICAL, 3)])
def test_pressure_releases_memory_before_each_chunk(monkeypatch, level, releases):
    released = []
    monkeypatch.setattr(beam_etl.memory.chunks, "release_unused_memory", lambda: released.append(True))
    assert sizes(numbers(1000), 500, level) == [500, 500]
    assert len(released) == releases


def test_an_emergency_that_stays_is_an_error_after_a_bounded_wait():
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    chunks = process_in_chunks(
        numbers(3000),
        1000,
        memory_monitor=Pressure(NORMAL, EMERGENCY),
        emergency_wait_seconds=7,
        clock=lambda: now[0],
        sleep=sleep,
    )
    assert next(chunks).num_rows == 1000
    with pytest.raises(MemoryError, match=r"nothing was freed in 7 s.*smaller chunks"):
        next(chunks)
    assert now == [7.0]


def test_real_pressure_shrinks_chunks_by_its_own_monitor():
    held = pa.allocate_buffer(19 * 1024 * 1024)
    limit_mb = pa.total_allocated_bytes() / (0.95 * 1024 * 1024)
    table = numbers(1000)
    assert [c.num_rows for c in process_in_chunks(ds.dataset(table), 4000, max_memory_mb=limit_mb)] == [1000]
    wide = pa.table({"n": pa.nulls(8000)})
    assert next(process_in_chunks(wide, 4000, max_memory_mb=limit_mb)).num_rows == 2000
    assert held.size


def test_a_dataset_larger_than_its_chunks_is_never_held_whole(tmp_path):
    table = pa.table({"n": pa.array(range(2_000_000), pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50_000)
    whole = table.nbytes
    del table
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for chunk in process_in_chunks(ds.dataset(tmp_path), 50_000):
        most = max(most, pa.total_allocated_bytes() - before)
        rows += chunk.num_rows
    assert rows == 2_000_000
    assert most < whole / 5


def test_partitions_filters_and_missing_columns_are_kept(tmp_path):
    table = pa.table({"part": ["a"] * 30 + ["b"] * 30, "n": list(range(60))})
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=["part"])
    pq.write_table(pa.table({"m": [7]}), tmp_path / "b" / "z.parquet")
    schema = pa.schema([("n", pa.int64()), ("m", pa.int64()), ("part", pa.string())])
    dataset = ds.dataset(tmp_path, format="parquet", partitioning=["part"], schema=schema)
    for source in (dataset, dataset.filter(ds.field("part") == "b"), dataset.filter(ds.field("n") > 50)):
        chunks = list(process_in_chunks(source, 7))
        assert all(chunk.num_rows == 7 for chunk in chunks[:-1])
        assert pa.concat_tables(chunks).equals(source.to_table())


def test_progress_in_the_log_or_not_at_all(caplog):
    with caplog.at_level(logging.INFO, logger="beam_etl.memory.chunks"):
        sizes(numbers(5), 3, enable_progress=False, progress_callback=lambda done, total: pytest.fail("told"))
        assert caplog.messages == []
        sizes(numbers(5), 3)
    assert caplog.messages == ["3 of 5 rows", "5 of 5 rows"]


def test_wrong_sizes_are_refused_at_once():
    with pytest.raises(ValueError, match="chunk_size_rows=0"):
        process_in_chunks(numbers(1), 0)
