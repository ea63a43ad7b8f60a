import io
import re
import sys
import threading

import pytest
from rich.console import Console

from beam_etl.memory.monitor import MemoryMonitor
from beam_etl.model import ChunkRecord, SpanCount
from beam_etl.progress import display
from beam_etl.progress.board import ProgressBoard
from beam_etl.progress.display import live_table, plain_line, show_progress
from beam_etl.terminal import WithoutTracebacks

MB = 1_000_000


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def record(table, chunk, sink="parquet", load_id="k-000", schema_hash="s", size=10 * MB, rejects=0):
    span = SpanCount(0, 0, size, 1000, rejects, 0, 1000)
    return ChunkRecord(load_id, table, schema_hash, str(chunk), sink, (span,), 1000 - rejects, rejects)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    board = ProgressBoard(clock)
    board.begin("k-000", ["a", "b"], ["parquet"])
    return board


def drawn(board, columns, lines=40):
    console = Console(file=io.StringIO(), width=columns)
    console.print(live_table(board, MemoryMonitor(min_system_available_mb=0), columns, lines))
    return console.file.getvalue()


def test_what_is_left_follows_from_the_rate_and_the_total(board, clock):
    board.plan_table("k-000", "a", 100 * MB, 10)
    assert board.whole().total_bytes is None  # b's files are still being looked at
    board.plan_table("k-000", "b", 0, 0)
    board.start_chunk("k-000", "a")
    clock.now += 2
    board.land(record("a", 1, rejects=3))
    a, b = board.tables()
    assert (a.bytes, a.rows, a.rejects, a.chunks, a.total_chunks) == (10 * MB, 997, 3, 1, 10)
    assert a.bytes_per_second == pytest.approx(5 * MB)
    assert a.seconds_left == pytest.approx(18)
    assert b.landed and b.seconds_left == 0
    assert board.whole().seconds_left == pytest.approx(18)


def test_a_chunk_that_is_told_again_counts_once(board):
    for _ in range(3):
        board.land(record("a", 1))
    assert board.whole().bytes == 10 * MB


def test_the_sink_that_is_behind_is_what_counts():
    board = ProgressBoard()
    board.begin("k-000", ["a"], ["parquet", "postgres"])
    board.land(record("a", 1))
    assert (board.whole().bytes, board.whole().rows) == (0, 0)
    board.land(record("a", 1, "postgres", rejects=5))
    assert (board.whole().bytes, board.whole().rows, board.whole().rejects) == (10 * MB, 995, 5)


def test_a_widened_table_starts_again(board):
    board.land(record("a", 1))
    board.land(record("a", 2, schema_hash="wider"))
    assert board.whole().chunks == 1


def test_what_an_earlier_run_landed_counts_without_speed(board, clock):
    board.start_chunk("k-000", "a")
    clock.now += 1
    board.land(record("a", 1), by_this_run=False)
    assert (board.whole().bytes, board.whole().bytes_per_second) == (10 * MB, None)


def test_another_load_and_an_ended_one_leave_the_board_alone(board):
    board.land(record("a", 1, load_id="other-000"))
    board.land(record("z", 1))
    board.end()
    board.land(record("a", 1))
    assert board.whole().bytes == 0


def test_a_stall_is_known_by_the_time_since_progress(board, clock):
    clock.now += 7
    assert board.seconds_since_progress() == 7
    board.land(record("a", 1))
    assert board.seconds_since_progress() == 0
    assert board.seconds() == 7


def test_a_line_says_where_the_load_is(board, clock):
    line = plain_line(board, MemoryMonitor(min_system_available_mb=0))
    assert line.startswith("load k-000, 0 s: 0.0 MB, 0 rows, 0 rejects, 0 of 2 tables landed, memory ")
    assert line.endswith("looking at the files")
    board.plan_table("k-000", "a", 20 * MB, 2)
    board.plan_table("k-000", "b", 0, 0)
    board.start_chunk("k-000", "a")
    clock.now += 1
    board.land(record("a", 1))
    line = plain_line(board, MemoryMonitor(min_system_available_mb=0))
    assert "10.0 of 20.0 MB, 1,000 rows, 0 rejects, 10.0 MB/s, 1 of 2 tables landed" in line
    assert line.endswith("1 s left")


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_fits_its_terminal(board, clock, columns):
    name = "a_table_whose_name_is_longer_than_any_name_should_be_" * 2
    board.begin("0123456789ab-000", ["[bold]", name], ["parquet"])
    board.plan_table("0123456789ab-000", name, 123_456 * MB, 12345)
    board.plan_table("0123456789ab-000", "[bold]", 0, 0)
    board.start_chunk("0123456789ab-000", name)
    clock.now += 1
    board.land(record(name, 1, load_id="0123456789ab-000"))
    text = drawn(board, columns)
    assert max(map(len, text.splitlines())) <= columns
    for expected in (
        "10.0 of 123,456.0" if columns > 100 else " 10 ",
        "1,000",
        "3 h 25 min",
        "[bold]",
        "landed",
        "all",
    ):
        assert expected in text, text


def test_many_tables_are_cut_to_those_in_work(board):
    board.begin("k-000", [f"t{number:03d}" for number in range(300)], ["parquet"])
    board.land(record("t250", 1))
    lines = drawn(board, 100, lines=24).splitlines()
    assert len(lines) <= 24
    assert lines[2].startswith("t250")
    assert any("and 284 more" in line for line in lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_of_others_come_above_the_table_and_tracebacks_never(board, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", filtered := WithoutTracebacks(terminal))
    with show_progress("live", board=board):
        sys.stderr.write("a warning\n")
        sys.stderr.write("Traceback (most recent call last):\n  secret\n")
    assert sys.stderr is filtered
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "a warning" in text
    assert "Load k-000" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("how", ["live", "plain", "none"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_loads_own_errors_pass_and_the_thread_ends(board, monkeypatch, how, error):
    monkeypatch.setattr(sys, "stderr", before := Terminal())
    with pytest.raises(error), show_progress(how, board=board):
        raise error
    assert sys.stderr is before
    assert "progress" not in [thread.name for thread in threading.enumerate()]


class ClosedTerminal(Terminal):
    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("how", ["live", "plain"])
def test_a_closed_terminal_stops_no_load(board, monkeypatch, how):
    monkeypatch.setattr(display, "PLAIN_SECONDS", 0.001)
    monkeypatch.setattr(sys, "stderr", before := ClosedTerminal())
    with show_progress(how, board=board):
        board.land(record("a", 1))
    assert sys.stderr is before
    assert board.whole().chunks == 1


def test_a_line_is_written_now_and_then(board, monkeypatch):
    written = threading.Event()

    class Captured(io.StringIO):
        def flush(self):
            written.set()

    monkeypatch.setattr(display, "PLAIN_SECONDS", 0.001)
    monkeypatch.setattr(sys, "stderr", captured := Captured())
    with show_progress("plain", board=board):
        assert written.wait(30)
    assert captured.getvalue().startswith("beam_etl: load k-000, 0 s: ")
