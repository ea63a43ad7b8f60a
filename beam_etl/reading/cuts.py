"""Exact record-aligned spans of a file, found in parallel near tentative cuts.

A file's body is divided into ranges at multiples of the chunk size. Around the start of each range the automaton runs
from all its states at once; once they have merged, the next record start is certain whatever came before (Mytkowicz,
Musuvathi, Schulte: "Data-Parallel Finite-State Machines", ASPLOS 2014). Where they do not merge, the range is summarised
as a map from start state to end state, and the maps of a file are composed in order. No guess is ever made.
"""

from __future__ import annotations

import dataclasses

from beam_etl.model import InspectedFile, Span
from beam_etl.reading.automaton import RECORD_START
from beam_etl.reading.boundaries import first_record_start, n_states, next_record_start, state_map
from beam_etl.reading.chunk_reader import Bytes, read_span

# Merging takes 66 bytes (median) to 288 (maximum of 20,000 offsets) on lineitem, so the first window nearly always does.
WINDOW_BEFORE_BYTES = 4 << 10
FIRST_WINDOW_AFTER_BYTES = 64 << 10
LAST_WINDOW_AFTER_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Range:
    """The bytes [start, end) of a file's body, cut without looking at them; number counts from 0 in the file."""

    file: InspectedFile
    number: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class RangeSummary:
    """What a range says about record starts.

    Attributes:
      range: the range.
      record_start: first record start at or after range.start, certain without context; None where states do not merge.
      end_states: state at range.start -> state at range.end; empty where record_start is known.
      starts: state at range.start -> first record start in [range.start, range.end), None where there is none.
    """

    range: Range
    record_start: int | None
    end_states: tuple[int, ...] = ()
    starts: tuple[int | None, ...] = ()


def cut_ranges(file: InspectedFile, range_bytes: int) -> list[Range]:
    """The body of a file in ranges of range_bytes; the last one may be up to half as long again rather than tiny."""
    body = file.body_end - file.body_start
    count = max(1, (body + range_bytes // 2) // range_bytes)
    edges = [file.body_start + i * range_bytes for i in range(count)] + [file.body_end]
    return [Range(file, i, edges[i], edges[i + 1]) for i in range(count)] if body > 0 else []


def summarise_range(range_: Range) -> RangeSummary:
    """Looks for the first record start of a range: in small windows, and in the whole range only where those fail."""
    if range_.number == 0:
        return RangeSummary(range_, range_.start)
    file, start = range_.file, range_.start
    before = min(WINDOW_BEFORE_BYTES, start - file.body_start)
    after = FIRST_WINDOW_AFTER_BYTES
    while after <= LAST_WINDOW_AFTER_BYTES:
        data = _read(file, start - before, min(start + after, file.body_end))
        found = first_record_start(data, file.dialect, before)
        if found is not None:
            return RangeSummary(range_, start - before + found)
        after *= 8
    data = _read(file, start, range_.end)
    starts = tuple(next_record_start(data, file.dialect, state, 0) for state in range(n_states(file.dialect)))
    return RangeSummary(
        range_,
        None,
        end_states=state_map(data, file.dialect),
        starts=tuple(None if found is None or found >= len(data) else start + found for found in starts),
    )


def compose_spans(file: InspectedFile, summaries: list[RangeSummary]) -> tuple[Span, ...]:
    """The record-aligned spans of a file; they tile its body.

    Args:
      summaries: of all ranges of the file, in any order. A missing one leaves its bytes to the span before it, and so
        loses nothing.
    """
    starts = [file.body_start]
    state: int | None = None  # at the end of the range before, where it is known
    for summary in sorted(summaries, key=lambda s: s.range.number):
        if summary.record_start is not None:
            found: int | None = summary.record_start
            state = None
        elif state is None and starts[-1] > summary.range.start:
            found = None  # a record that is longer than a range ends behind the start of this one
        else:
            if state is None:
                state = _state_at(file, starts[-1], summary.range.start)
            found = summary.starts[state]
            state = summary.end_states[state]
        if found is not None and starts[-1] < found < file.body_end:
            starts.append(found)
    edges = [*starts, file.body_end]
    return tuple(Span(file, edges[i], edges[i + 1]) for i in range(len(starts)) if edges[i] < edges[i + 1])


def _state_at(file: InspectedFile, record_start: int, offset: int) -> int:
    """State of the automaton at an offset, from the record start before it, read in blocks."""
    state, position = RECORD_START, record_start
    while position < offset:
        block_end = min(offset, position + LAST_WINDOW_AFTER_BYTES)
        state = state_map(_read(file, position, block_end), file.dialect)[state]
        position = block_end
    return state


def _read(file: InspectedFile, start: int, end: int) -> Bytes:
    return read_span(Span(file, start, end))
