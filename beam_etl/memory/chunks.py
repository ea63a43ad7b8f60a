"""Reads a dataset or table in chunks of rows that shrink while memory is short."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.dataset as ds

from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel, await_relief, release_unused_memory

# Below this a chunk is mostly overhead, and halving frees nothing that matters.
MIN_CHUNK_ROWS = 1_000

_logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]


def process_in_chunks(
    dataset: ds.Dataset | pa.Table,
    chunk_size_rows: int = 1_000_000,
    max_memory_mb: float = 2048,
    enable_progress: bool = True,
    progress_callback: Progress | None = None,
    memory_monitor: MemoryMonitor | None = None,
    *,
    emergency_wait_seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[pa.Table]:
    """Yields the rows in order, in tables of chunk_size_rows rows, the last one shorter.

    Memory is looked at before each chunk. WARNING releases unused memory; CRITICAL also halves the chunks from then on
    (never below 1,000 rows); EMERGENCY also waits for the pressure to fall.

    Of a Parquet dataset one row group is held besides the chunk; of other formats, and of filtered datasets, Arrow's
    scanner may read up to 1 GiB ahead, the limit at which it stops by itself.

    Args:
      dataset: what to read; a table's chunks share its memory.
      chunk_size_rows: rows of a chunk.
      max_memory_mb: MiB that Arrow may hold, for the monitor made where none is given.
      enable_progress: tell progress after each chunk was taken: to progress_callback, else to the log.
      progress_callback: gets rows done, and all rows or None where counting them would mean to read the data.
      memory_monitor: judges memory.
      emergency_wait_seconds: how long to wait for an emergency to pass.

    Raises:
      ValueError: chunk_size_rows is below 1.
      MemoryError: an emergency did not pass; raised while iterating.
    """
    if chunk_size_rows < 1:
        raise ValueError(f"chunk_size_rows={chunk_size_rows} must be at least 1 row; 1000000 is usual")
    monitor = memory_monitor or MemoryMonitor(max_pyarrow_mb=max_memory_mb)
    report = (progress_callback or _log_progress) if enable_progress else None

    def relieve() -> None:
        await_relief(monitor, emergency_wait_seconds, clock=clock, sleep=sleep)

    return _chunks(dataset, chunk_size_rows, monitor, report, relieve)


def _chunks(
    dataset: ds.Dataset | pa.Table,
    rows: int,
    monitor: MemoryMonitor,
    report: Progress | None,
    relieve: Callable[[], None],
) -> Iterator[pa.Table]:
    batches = _RowReader(dataset, rows)
    total = _known_rows(dataset) if report else None
    done = 0
    while True:
        rows = _react(monitor, rows, relieve)
        parts = batches.take(rows)
        taken = sum(part.num_rows for part in parts)
        if not taken:
            return
        yield pa.Table.from_batches(parts, dataset.schema)
        del parts  # else the chunk lives on while the next one is read
        done += taken
        if report:
            report(done, total)


def _react(monitor: MemoryMonitor, rows: int, relieve: Callable[[], None]) -> int:
    """Rows of the next chunk."""
    level = monitor.check_memory_pressure()
    if level is MemoryPressureLevel.NORMAL:
        return rows
    # Halved by the level seen before the release: it was reached with chunks of this size.
    smaller = max(min(rows, MIN_CHUNK_ROWS), rows // 2) if level >= MemoryPressureLevel.CRITICAL else rows
    if smaller < rows:
        _logger.warning("memory pressure is %s: chunks shrink from %d to %d rows", level.name, rows, smaller)
    if level is MemoryPressureLevel.EMERGENCY:
        relieve()
    else:
        release_unused_memory()
    return smaller


class _RowReader:
    """Takes any number of rows at a time off a stream of record batches, without copying."""

    def __init__(self, dataset: ds.Dataset | pa.Table, batch_rows: int) -> None:
        if isinstance(dataset, pa.Table):
            self._batches = iter(dataset.to_batches(max_chunksize=batch_rows))
        else:
            self._batches = (
                _parquet_batches(dataset, batch_rows) if _is_parquet(dataset) else _scan(dataset, batch_rows)
            )
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> list[pa.RecordBatch]:
        """Batches of `rows` rows in all; fewer, or none, at the end."""
        parts = []
        while rows > 0:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            self._rest = None
            if batch is None:
                break
            if batch.num_rows > rows:
                self._rest = batch.slice(rows)
                batch = batch.slice(0, rows)
            rows -= batch.num_rows
            parts.append(batch)
        return parts


def _parquet_batches(dataset: ds.Dataset, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """One row group after the other: a scanner of the whole dataset reads far ahead, whatever its options say."""
    try:
        files = list(dataset.get_fragments())
    except ValueError:  # a filtered dataset does not give its fragments away
        yield from _scan(dataset, batch_rows)
        return
    for file in files:
        for group in file.split_by_row_group():
            yield from _scan(group, batch_rows, schema=dataset.schema, use_threads=False)


def _scan(source: ds.Dataset | ds.Fragment, batch_rows: int, **options: object) -> Iterator[pa.RecordBatch]:
    scanner = source.scanner(batch_size=batch_rows, batch_readahead=1, fragment_readahead=1, **options)
    return iter(scanner.to_batches())


def _known_rows(dataset: ds.Dataset | pa.Table) -> int | None:
    if isinstance(dataset, pa.Table):
        return int(dataset.num_rows)
    return int(dataset.count_rows()) if _is_parquet(dataset) else None


def _is_parquet(dataset: ds.Dataset) -> bool:
    return isinstance(dataset, ds.FileSystemDataset) and isinstance(dataset.format, ds.ParquetFileFormat)


def _log_progress(done_rows: int, total_rows: int | None) -> None:
    _logger.info("%d of %s rows", done_rows, "an unknown number of" if total_rows is None else total_rows)
