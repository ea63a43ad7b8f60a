"""Record starts inside a file, exact without reading what comes before them.

Near a cut the automaton runs from all its states at once. Where they agree, what follows is certain whatever came before;
where they do not, a range is summarised as a map from start state to end state, and maps compose. No guess is ever made.
Source: Mytkowicz, Musuvathi, Schulte, "Data-Parallel Finite-State Machines", ASPLOS 2014.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
from numba import njit

from beam_etl.model import Dialect
from beam_etl.reading.automaton import (
    CR,
    CR_SEEN,
    IN_QUOTED,
    IN_UNQUOTED,
    LF,
    NO_BYTE,
    RECORD_START,
    Symbols,
    next_state,
    read_only,
)
from beam_etl.reading.byte_blocks import BLOCK_BYTES, block_mask, trailing_zeros

StateMap = tuple[int, ...]

_NOT_CERTAIN = -1
_STEPPED_BYTES = 1024  # stepped through before states are compared, or a quote is looked for, again


@dataclasses.dataclass(frozen=True)
class _Machine:
    """A dialect's automaton as a table.

    Attributes:
      table: uint8, (n_states, 256): the next state.
      reachable: uint8: the states that some text leads to.
      quoting: bytes that lead into or out of quoted fields, twice the same if there is one; empty if there is none.
      line_ends: the bytes that end a line, twice the same if there is one.
      settling_bytes: after so many bytes without quote or escape each state is unquoted or stays in quotes.
    """

    table: npt.NDArray[np.uint8]
    reachable: npt.NDArray[np.uint8]
    quoting: tuple[np.uint8, ...]
    line_ends: tuple[np.uint8, np.uint8]
    settling_bytes: int

    @property
    def n_states(self) -> int:
        return len(self.table)


@functools.lru_cache(maxsize=64)
def _machine(dialect: Dialect) -> _Machine:
    symbols = Symbols.of(dialect)
    rows = [[next_state(symbols, state, byte) for byte in range(256)] for state in range(symbols.n_states)]
    reachable = {RECORD_START}
    while (more := reachable.union(*(rows[state] for state in reachable))) != reachable:
        reachable = more
    quoting = [np.uint8(byte) for byte in (symbols.quote, symbols.escape) if byte != NO_BYTE]
    return _Machine(
        read_only(np.array(rows, dtype=np.uint8)),
        read_only(np.array(sorted(reachable), dtype=np.uint8)),
        (quoting[0], quoting[-1]) if quoting else (),
        (np.uint8(LF if symbols.lf_ends else CR), np.uint8(CR if symbols.cr_ends else LF)),
        max(2, 1 + len(symbols.rest)),  # CR and LF, or a whole delimiter, behind a closing quote
    )


def n_states(dialect: Dialect) -> int:
    """How many states the automaton of a dialect has."""
    return _machine(dialect).n_states


def first_record_start(data: npt.NDArray[np.uint8], dialect: Dialect, at: int) -> int | None:
    """The first record start at or after `at` that holds whatever the state was before data[0].

    A blank line or comment counts as a record here. The start just behind the last byte of data counts too, unless that
    byte is a CR that a LF may follow.

    Args:
      data: uint8, (n_bytes,): a window of a file.
      at: offset in data.

    Returns:
      Offset in data; None where states disagree whether a record starts, or no record starts in [at, len(data)].
    """
    return _first_start(data, dialect, _machine(dialect).reachable.copy(), at)


def next_record_start(data: npt.NDArray[np.uint8], dialect: Dialect, state: int, at: int) -> int | None:
    """The first record start at or after `at`, where `state` holds before data[0]; None where data ends before it."""
    return _first_start(data, dialect, np.array([state], dtype=np.uint8), at)


def state_map(data: npt.NDArray[np.uint8], dialect: Dialect) -> StateMap:
    """For each state before data[0], the state after data: (n_states,). Long stretches without quotes cost next to nothing."""
    machine = _machine(dialect)
    states = np.arange(machine.n_states, dtype=np.uint8)
    _advance(
        machine.table, states, read_only(data), data.size, machine.quoting, machine.line_ends, machine.settling_bytes
    )
    return tuple(states.tolist())


def compose(first: StateMap, second: StateMap) -> StateMap:
    """The map of two ranges in a row. Associative; the map of no bytes is neutral."""
    return tuple(second[state] for state in first)


def _first_start(data: npt.NDArray[np.uint8], dialect: Dialect, states: npt.NDArray[np.uint8], at: int) -> int | None:
    if not 0 <= at <= data.size:
        return None
    data = read_only(data)
    machine = _machine(dialect)
    _advance(machine.table, states, data, at, machine.quoting, machine.line_ends, machine.settling_bytes)
    start = int(_find_start(machine.table, np.unique(states), data, at, machine.quoting))
    return None if start == _NOT_CERTAIN else start


@njit(nogil=True, cache=True)
def _advance(table, states, data, end, quoting, line_ends, settling_bytes):  # type: ignore[no-untyped-def]
    """Moves each of `states` from before data[0] to before data[end], in place."""
    live = states.copy()  # the distinct states; live[owner[i]] is where states[i] has got to
    owner = np.arange(states.size)
    n_live = _merge(live, states.size, owner)
    position = 0
    while position < end:
        silent_end = _find_any(data, position, end, quoting)
        stop = min(position + _STEPPED_BYTES, end)
        if silent_end >= stop:
            # After these bytes each state is unquoted or stays in quotes; whichever unquoted state it is, it leaves the
            # last line end in the same state.
            settled = min(position + settling_bytes, end)
            _step(table, live, n_live, data, position, settled)
            position = settled
            last = _find_last(data, position, silent_end, line_ends)
            if last >= position:
                for i in range(n_live):
                    if live[i] != IN_QUOTED:
                        live[i] = table[IN_UNQUOTED, data[last]]
                position = last + 1
            stop = silent_end
        _step(table, live, n_live, data, position, stop)
        position = stop
        n_live = _merge(live, n_live, owner)
    for i in range(states.size):
        states[i] = live[owner[i]]


@njit(nogil=True, cache=True)
def _merge(live, n_live, owner):  # type: ignore[no-untyped-def]
    """Keeps one of each state in live[:n_live] and points owner to it; returns how many are left."""
    kept = 0
    place = np.empty(n_live, dtype=np.int64)
    for i in range(n_live):
        place[i] = kept
        for j in range(kept):
            if live[j] == live[i]:
                place[i] = j
                break
        if place[i] == kept:
            live[kept] = live[i]
            kept += 1
    for i in range(owner.size):
        owner[i] = place[owner[i]]
    return kept


@njit(nogil=True, cache=True)
def _step(table, live, n_live, data, begin, end):  # type: ignore[no-untyped-def]
    if n_live == 1:
        state = live[0]
        for position in range(begin, end):
            state = table[state, data[position]]
        live[0] = state
        return
    for position in range(begin, end):
        byte = data[position]
        for i in range(n_live):
            live[i] = table[live[i], byte]


@njit(nogil=True, cache=True)
def _find_any(data, begin, end, wanted):  # type: ignore[no-untyped-def]
    """Offset of the first byte of data[begin:end] that is in `wanted`, or end."""
    if len(wanted) > 0:
        for base in range(begin, end, BLOCK_BYTES):
            mask = block_mask(data, base, wanted)
            if mask != 0:
                return min(base + trailing_zeros(mask), end)
    return end


@njit(nogil=True, cache=True)
def _find_last(data, begin, end, wanted):  # type: ignore[no-untyped-def]
    """Offset of the last byte of data[begin:end] that is one of the two in `wanted`, or begin - 1."""
    last = end - 1
    while last >= begin and data[last] != wanted[0] and data[last] != wanted[1]:
        last -= 1
    return last


@njit(nogil=True, cache=True)
def _find_start(table, live, data, at, quoting):  # type: ignore[no-untyped-def]
    """The first position at or after `at` where a record starts in every state; _NOT_CERTAIN if first in some only."""
    position = at
    while position <= data.size:
        starts = quoted = 0
        for state in live:
            if state == RECORD_START:
                starts += 1
            elif state == CR_SEEN:
                if position == data.size:
                    return _NOT_CERTAIN
                starts += data[position] != LF
            elif state == IN_QUOTED:
                quoted += 1
        if starts == live.size:
            return position
        if starts > 0:
            return _NOT_CERTAIN
        if quoted == live.size:
            position = _find_any(data, position, data.size, quoting)  # nothing else leads out of quotes
        if position < data.size:
            _step(table, live, live.size, data, position, position + 1)
        position += 1
    return _NOT_CERTAIN
