"""How far the load is that this process runs: one board, on which worker threads note each chunk once.

A worker in another process writes on a board that nobody has begun, which keeps nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable

from beam_etl.model import ChunkRecord

# A rate is that of so many landed chunks at most, so that it follows the machine and does not jump at each chunk.
RATE_CHUNKS = 32


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a table, or the whole load, is; counted in the sink that is behind the others.

    Attributes:
      name: of the table; of the load for the whole.
      bytes, rows, rejects, chunks: landed, by earlier runs of this load too.
      total_bytes, total_chunks: planned; None while files are still being looked at.
      bytes_per_second: of the last chunks of this run; None before there are any.
    """

    name: str
    bytes: int = 0
    rows: int = 0
    rejects: int = 0
    chunks: int = 0
    total_bytes: int | None = None
    total_chunks: int | None = None
    bytes_per_second: float | None = None

    @property
    def landed(self) -> bool:
        return self.total_chunks is not None and self.chunks >= self.total_chunks

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where it or the total is unknown."""
        if self.landed:
            return 0.0
        if not self.bytes_per_second or self.total_bytes is None:
            return None
        return max(self.total_bytes - self.bytes, 0) / self.bytes_per_second


class _Rate:
    """Bytes a second, of the last chunks."""

    def __init__(self, now: float) -> None:
        self._sums = collections.deque([(now, 0)], maxlen=RATE_CHUNKS + 1)

    def add(self, now: float, size: int) -> None:
        self._sums.append((now, self._sums[-1][1] + size))

    def bytes_per_second(self, now: float) -> float | None:
        (begin, before), (_, after) = self._sums[0], self._sums[-1]
        return (after - before) / (now - begin) if after > before and now > begin else None


@dataclasses.dataclass
class _Landed:
    """What one sink holds of a table."""

    chunk_ids: set[str] = dataclasses.field(default_factory=set)
    bytes: int = 0
    rows: int = 0
    rejects: int = 0


class _TableBoard:
    def __init__(self, sinks: Iterable[str]) -> None:
        self.total: tuple[int, int] | None = None
        self.rate: _Rate | None = None
        self.schema_hash = ""
        self.sinks = {sink: _Landed() for sink in sinks}

    def behind(self) -> _Landed:
        return min(self.sinks.values(), key=lambda landed: (landed.bytes, landed.rows))

    def land(self, record: ChunkRecord) -> int:
        """Counts a record once; bytes by which the sink that is behind has come forward."""
        if record.schema_hash != self.schema_hash:  # the table was widened, and lands a second time
            self.schema_hash, self.sinks = record.schema_hash, {sink: _Landed() for sink in self.sinks}
        landed, before = self.sinks[record.sink], self.behind().bytes
        if record.chunk_id not in landed.chunk_ids:
            landed.chunk_ids.add(record.chunk_id)
            landed.bytes += sum(span.end - span.start for span in record.spans)
            landed.rows += record.rows
            landed.rejects += record.rejects
        return self.behind().bytes - before

    def progress(self, name: str, now: float) -> Progress:
        behind = self.behind()
        total_bytes, total_chunks = self.total or (None, None)
        rate = None if self.rate is None else self.rate.bytes_per_second(now)
        chunks = len(behind.chunk_ids)
        return Progress(name, behind.bytes, behind.rows, behind.rejects, chunks, total_bytes, total_chunks, rate)


class ProgressBoard:
    """What has landed, by table. Every method may be called by any thread at any time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._load_id = ""
        self._tables: dict[str, _TableBoard] = {}
        self._rate: _Rate | None = None
        self._begun_at = self._progressed_at = clock()

    @property
    def load_id(self) -> str:
        """Of the load that runs; "" while none does."""
        return self._load_id

    def begin(self, load_id: str, tables: Iterable[str], sinks: Iterable[str]) -> None:
        """Wipes the board for a load."""
        sinks = tuple(sinks)
        with self._lock:
            self._load_id = load_id
            self._tables = {table: _TableBoard(sinks) for table in sorted(tables)}
            self._begun_at = self._progressed_at = self._clock()
            self._rate = None

    def end(self) -> None:
        """No load runs any more; what is on the board stays, and nothing is added."""
        with self._lock:
            self._load_id = ""

    def plan_table(self, load_id: str, table: str, total_bytes: int, total_chunks: int) -> None:
        """A table's files are looked at: its records are so many bytes, in so many chunks."""
        with self._lock:
            if load_id == self._load_id and table in self._tables:
                self._tables[table].total = (total_bytes, total_chunks)
                self._progressed_at = self._clock()

    def start_chunk(self, load_id: str, table: str) -> None:
        """This run begins to convert a chunk; from the first one on there is a rate."""
        with self._lock:
            if load_id == self._load_id and table in self._tables:
                now = self._clock()
                self._rate = self._rate or _Rate(now)
                self._tables[table].rate = self._tables[table].rate or _Rate(now)

    def land(self, record: ChunkRecord, by_this_run: bool = True) -> None:
        """A sink has committed a chunk. A chunk that is told again counts once; one of an earlier run has no speed."""
        with self._lock:
            table = self._tables.get(record.table)
            if record.load_id != self._load_id or table is None or record.sink not in table.sinks:
                return
            forward = table.land(record)
            now = self._clock()
            if by_this_run and forward > 0:
                table.rate = table.rate or _Rate(now)
                table.rate.add(now, forward)
                self._rate = self._rate or _Rate(now)
                self._rate.add(now, forward)
            self._progressed_at = now

    def tables(self) -> list[Progress]:
        """Of every table, by name."""
        with self._lock:
            now = self._clock()
            return [table.progress(name, now) for name, table in self._tables.items()]

    def whole(self) -> Progress:
        """Of the load; its totals are unknown while those of any table are."""
        tables = self.tables()
        totals = [t.total_bytes for t in tables if t.total_bytes is not None]
        chunks = [t.total_chunks for t in tables if t.total_chunks is not None]
        planned = len(totals) == len(tables)
        with self._lock:
            return Progress(
                name=self._load_id,
                bytes=sum(t.bytes for t in tables),
                rows=sum(t.rows for t in tables),
                rejects=sum(t.rejects for t in tables),
                chunks=sum(t.chunks for t in tables),
                total_bytes=sum(totals) if planned else None,
                total_chunks=sum(chunks) if planned else None,
                bytes_per_second=None if self._rate is None else self._rate.bytes_per_second(self._clock()),
            )

    def seconds(self) -> float:
        """Since the load began."""
        return self._clock() - self._begun_at

    def seconds_since_progress(self) -> float:
        """Since a table was planned or a chunk landed last: by this a watchdog knows that a load is stalled."""
        return self._clock() - self._progressed_at


BOARD = ProgressBoard()
