"""What a person sees while a load runs: a table that is drawn again and again on a terminal, a line now and then elsewhere.

It only reads the board, from a thread of its own, and whatever goes wrong in it leaves the load alone.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from beam_etl.memory.budget import default_budget_bytes
from beam_etl.memory.gate import monitor_for
from beam_etl.memory.monitor import MemoryMonitor
from beam_etl.progress.board import BOARD, Progress, ProgressBoard
from beam_etl.terminal import WithoutTracebacks

MB = 1_000_000
LIVE_SECONDS = 0.25
# Also the age at which a load has its first line: short ones, as in scripts, stay silent.
PLAIN_SECONDS = 10.0
# Above so many columns there is room for a bar.
WIDE_COLUMNS = 100
# Lines that are left free on a terminal that cannot show all tables.
SPARE_LINES = 8

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def show_progress(
    how: Literal["live", "plain", "none"], budget_bytes: int | None = None, board: ProgressBoard = BOARD
) -> Iterator[None]:
    """Shows the board on standard error while the block runs; what was drawn live is gone afterwards."""
    monitor = monitor_for(budget_bytes or default_budget_bytes(1)) if how != "none" else None
    if monitor is None:
        yield
    elif how == "plain":
        with _repeated(lambda: _write_line(plain_line(board, monitor)), PLAIN_SECONDS):
            yield
    else:
        with _live(board, monitor):
            yield


def _write_line(line: str) -> None:
    """A log that a machine reads gets the line as an entry, so that standard error holds nothing else."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line, extra={"step": "progress"})
    else:
        print(f"beam_etl: {line}", file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def _live(board: ProgressBoard, monitor: MemoryMonitor) -> Iterator[None]:
    before = sys.stderr
    console = Console(file=before, force_terminal=True)
    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        vertical_overflow="crop",
        get_renderable=lambda: live_table(board, monitor, console.width, console.height),
    )
    _try(live.start)
    filtered = isinstance(before, WithoutTracebacks)  # Live is in its place now, to write above the table
    try:
        with (
            contextlib.redirect_stderr(WithoutTracebacks(sys.stderr)) if filtered else contextlib.nullcontext(),
            _repeated(live.refresh, LIVE_SECONDS),
        ):
            yield
    finally:
        _try(live.stop)


def _try(step: Callable[..., None]) -> None:
    """Does something to the display that may fail: a terminal can be closed, and that is no reason to stop a load."""
    try:
        step()
    except Exception:
        logger.info("the progress display failed", exc_info=True)


@contextlib.contextmanager
def _repeated(show: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls show every so many seconds, from a thread that ends with the block or with its first error."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            show()

    thread = threading.Thread(target=lambda: _try(repeat), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def plain_line(board: ProgressBoard, monitor: MemoryMonitor) -> str:
    """Where the load is, in one line."""
    whole, tables = board.whole(), board.tables()
    level = monitor.check_memory_pressure().name.lower()
    parts = [f"{_size(whole)} MB", f"{whole.rows:,} rows", f"{whole.rejects:,} rejects"]
    if whole.bytes_per_second is not None:
        parts.append(f"{whole.bytes_per_second / MB:,.1f} MB/s")
    landed = sum(table.landed for table in tables)
    parts += [f"{landed} of {len(tables)} tables landed", f"memory {level}", _outlook(whole, tables)]
    return f"load {whole.name}, {_time(board.seconds())}: {', '.join(parts)}"


def live_table(board: ProgressBoard, monitor: MemoryMonitor, columns: int, lines: int) -> RenderableType:
    """Where the load and its tables are, within so many columns and lines."""
    whole, tables = board.whole(), board.tables()
    rss = monitor.get_memory_status()["process_rss_mb"]
    level = monitor.check_memory_pressure()
    style = ("green", "yellow", "red", "bold red")[level]
    used = "" if rss is None else f" {rss:,.0f} MiB"
    outlook = _outlook(whole, tables)
    heading = f"Load {whole.name}  {_time(board.seconds())}  {outlook}  memory{used} [{style}]{level.name.lower()}[/]"
    wide = columns >= WIDE_COLUMNS
    grid = Table(box=None, pad_edge=False, expand=False)
    grid.add_column("table", overflow="ellipsis", no_wrap=True, max_width=columns // 5)
    if wide:
        grid.add_column("", width=24)
    for name in ("", "MB", "rows", "rejects", "MB/s", "left"):
        grid.add_column(name, justify="right", no_wrap=True)
    shown = _most_telling(tables, max(lines - SPARE_LINES, 1))
    for table in shown:
        grid.add_row(*_cells(table, wide))
    hidden = len(tables) - len(shown)
    if hidden:
        grid.add_row(f"[dim]and {hidden:,} more[/]")
    if len(tables) > 1:
        grid.add_row(*_cells(whole, wide, "all"), style="bold")
    return Group(Text.from_markup(heading, overflow="ellipsis"), grid)


def _cells(progress: Progress, wide: bool, name: str | None = None) -> list[RenderableType]:
    rate, share = progress.bytes_per_second, _share(progress)
    done = 100.0 * (share or 0.0)
    return [
        escape(name or progress.name),
        *([ProgressBar(total=100.0, completed=done, width=24)] if wide else []),
        "" if share is None else f"{int(done)} %",
        _size(progress) if wide else f"{progress.bytes / MB:,.0f}",
        f"{progress.rows:,}",
        f"[yellow]{progress.rejects:,}[/]" if progress.rejects else "0",
        "" if rate is None or progress.landed else f"{rate / MB:,.1f}",
        "landed" if progress.landed else _left(progress),
    ]


def _most_telling(tables: list[Progress], count: int) -> list[Progress]:
    """Those in work first, then those that wait, then those that have landed; all by name if there is room."""
    if len(tables) <= count:
        return tables
    return sorted(tables, key=lambda t: (t.landed, not t.chunks, t.name))[:count]


def _outlook(whole: Progress, tables: list[Progress]) -> str:
    if any(table.total_chunks is None for table in tables):
        return "looking at the files"
    if all(table.landed for table in tables):
        return "all landed, balancing the books"
    return f"{_left(whole)} left" if _left(whole) else "landing"


def _share(progress: Progress) -> float | None:
    if progress.total_bytes is None:
        return None
    return min(progress.bytes / progress.total_bytes, 1.0) if progress.total_bytes else 1.0


def _size(progress: Progress) -> str:
    done = f"{progress.bytes / MB:,.1f}"
    return done if progress.total_bytes is None else f"{done} of {progress.total_bytes / MB:,.1f}"


def _left(progress: Progress) -> str:
    return "" if progress.seconds_left is None else _time(progress.seconds_left)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
