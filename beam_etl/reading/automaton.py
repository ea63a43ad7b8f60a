"""The one automaton that reads delimited text, and the index it makes of records and fields.

The automaton is defined for every byte string by `next_state`, whatever the dialect:

- A line end at the start of a record is a blank line; a comment byte there makes the line a comment. Neither is a record.
- line_end "lf": LF ends a record, and a CR directly before it belongs to the line end; any other CR is data. "cr": CR ends a
  record, LF is data. "any": LF, CRLF and lone CR end a record.
- A delimiter of several bytes ends a field where all of them stand, the leftmost first and none inside another; fewer of
  them are data. Its bytes are those of the file's encoding.
- A quote opens a quoted field at the field's first byte only, elsewhere it is data. Delimiters and line ends in it are data.
- After a quote in a quoted field come a delimiter, a line end, the end of the data, or (escape "doubled") a quote. Any other
  byte, and a CR that turns out not to be part of a line end, make the record malformed and the field goes on, quoted.
- escape "backslash": a backslash takes the next byte literally, in quoted and unquoted fields.
- At the end of the data an open record is complete without a line end, but malformed in quotes or after a bare backslash.

Where records lie depends on bytes and state alone, never on field counts or lengths, so text cut at any record start gives
the same records. Boundaries (boundaries.py) are found by the table of `next_state`; `index_records` is the same automaton
written out by hand over the bytes that matter, which it finds 64 at a time. Tests hold the two against a third reader.

Sources: Mytkowicz, Musuvathi, Schulte, "Data-Parallel Finite-State Machines", ASPLOS 2014; Stehle, Jacobsen, "ParPaRaw:
Massively Parallel Parsing of Delimiter-Separated Raw Data", VLDB 2020; Ge, Li, Eilebrecht, Chandramouli, Kossmann,
"Speculative Distributed CSV Data Parsing for Big Data Analytics", SIGMOD 2019; RFC 4180.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.extending import overload

from beam_etl.model import MOST_DELIMITER_BYTES, Dialect
from beam_etl.reading.byte_blocks import BLOCK_BYTES, UNROLLED, block_mask, count_ones, positions_of
from beam_etl.reading.field_index import ESCAPED, FLAG_BITS, MAX_INDEXED_BYTES, QUOTED, FieldIndex

# States of the automaton.
RECORD_START = 0
FIELD_START = 1  # after a delimiter
IN_UNQUOTED = 2
IN_QUOTED = 3
QUOTE_IN_QUOTED = 4  # closes the field, or is half of an escaped quote, or malformed: the next byte tells
CR_AFTER_QUOTE = 5  # line_end "lf": part of CRLF, or malformed
CR_SEEN = 6  # line_end "any": the record has ended, a LF would still belong to its line end
UNQUOTED_ESCAPE = 7
QUOTED_ESCAPE = 8
IN_COMMENT = 9
# Behind these come the states of a delimiter of k bytes of which the first 1 ... k - 1 were seen: k - 1 states in unquoted
# text, then k - 1 behind a closing quote.
FIRST_PARTIAL = 10

RAGGED = 1
MALFORMED = 2
TOO_LONG = 3

LF = 0x0A
CR = 0x0D
BACKSLASH = 0x5C
NO_BYTE = 256  # equal to no byte: a role that the dialect does not use

_FIRST_BROKEN = 1024
_SEGMENT_BYTES = 4096  # so that a segment's bytes and positions stay in the fastest cache


@dataclasses.dataclass(frozen=True)
class Symbols:
    """The bytes that have a role in a dialect, as integers; NO_BYTE for roles it does not use.

    `delimiter` is the first byte of the delimiter, `rest` what follows it.
    """

    delimiter: int
    rest: bytes
    quote: int
    escape: int
    comment: int
    doubled: bool
    lf_ends: bool
    cr_ends: bool

    @classmethod
    def of(cls, dialect: Dialect) -> Symbols:
        """Raises ValueError where a role is not one ASCII character (the delimiter: 1 to 16 bytes), or one has two roles."""
        roles = {
            "quote": dialect.quote,
            "escape": "\\" if dialect.escape == "backslash" else "",
            "comment": dialect.comment,
        }
        separator = dialect.separator
        if not 0 < len(separator) <= MOST_DELIMITER_BYTES:
            raise ValueError(
                f"dialect.delimiter is {dialect.delimiter!r}; give 1 to {MOST_DELIMITER_BYTES} bytes, such as ; or ||"
            )
        used = {"\n": "line end", "\r": "line end"} | dict.fromkeys(map(chr, separator), "delimiter")
        if {"\n", "\r"} & set(dialect.delimiter):
            raise ValueError(f"dialect.delimiter {dialect.delimiter!r} holds a line end; choose another")
        for role, character in roles.items():
            if len(character) > 1 or not character.isascii():
                raise ValueError(f"dialect.{role} is {character!r}; give one ASCII character, such as ; or |")
            if character in used:
                raise ValueError(f"dialect.{role} {character!r} is its {used[character]} too; choose another character")
            if character:
                used[character] = role
        quote, escape, comment = (ord(text) if text else NO_BYTE for text in roles.values())
        return cls(
            delimiter=separator[0],
            rest=separator[1:],
            quote=quote,
            escape=escape,
            comment=comment,
            doubled=dialect.escape == "doubled",
            lf_ends=dialect.line_end != "cr",
            cr_ends=dialect.line_end != "lf",
        )

    @property
    def n_states(self) -> int:
        return FIRST_PARTIAL + 2 * len(self.rest)

    @property
    def structural(self) -> tuple[np.uint8, ...]:
        """The five bytes that the index looks at; roles that the dialect does not use repeat the delimiter."""
        line_ends = (LF if self.lf_ends else CR, CR if self.cr_ends else LF)
        used = (self.delimiter, self.quote, self.escape, *line_ends)
        return tuple(np.uint8(self.delimiter if byte == NO_BYTE else byte) for byte in used)


def next_state(symbols: Symbols, state: int, byte: int) -> int:
    """The automaton: where one byte leads from a state."""
    rest = len(symbols.rest)
    if state >= FIRST_PARTIAL + rest:
        seen = state - FIRST_PARTIAL - rest + 1
        if byte != symbols.rest[seen - 1]:
            return next_state(symbols, IN_QUOTED, byte)
        return FIELD_START if seen == rest else state + 1
    if state >= FIRST_PARTIAL:
        return _next_partial(symbols, state - FIRST_PARTIAL + 1, byte)
    if state == UNQUOTED_ESCAPE:
        return IN_UNQUOTED
    if state == QUOTED_ESCAPE:
        return IN_QUOTED
    if state == CR_SEEN:
        return RECORD_START if byte == LF else next_state(symbols, RECORD_START, byte)
    if state == CR_AFTER_QUOTE:
        return RECORD_START if byte == LF else next_state(symbols, IN_QUOTED, byte)
    if state == IN_QUOTED:
        return {symbols.quote: QUOTE_IN_QUOTED, symbols.escape: QUOTED_ESCAPE}.get(byte, IN_QUOTED)
    if byte == LF and symbols.lf_ends:
        return RECORD_START
    if byte == CR and symbols.cr_ends:
        return CR_SEEN if symbols.lf_ends else RECORD_START
    if state == IN_COMMENT or (state == RECORD_START and byte == symbols.comment):
        return IN_COMMENT
    if byte == symbols.delimiter:
        if symbols.rest:
            return FIRST_PARTIAL + (rest if state == QUOTE_IN_QUOTED else 0)
        return FIELD_START
    if state == QUOTE_IN_QUOTED:
        return CR_AFTER_QUOTE if byte == CR and symbols.lf_ends else IN_QUOTED
    if byte == symbols.escape:
        return UNQUOTED_ESCAPE
    return IN_QUOTED if byte == symbols.quote and state != IN_UNQUOTED else IN_UNQUOTED


def _next_partial(symbols: Symbols, seen: int, byte: int) -> int:
    """Where a byte leads in unquoted text whose last bytes are the first `seen` of a delimiter."""
    separator = bytes([symbols.delimiter]) + symbols.rest
    if byte == separator[seen]:
        return FIELD_START if seen + 1 == len(separator) else FIRST_PARTIAL + seen
    # The longest end of what was seen that begins a delimiter (Knuth, Morris, Pratt, "Fast Pattern Matching in Strings",
    # SIAM Journal on Computing 1977); all before it is data.
    text = separator[:seen] + bytes([byte])
    begun = next((length for length in range(seen, 0, -1) if text.endswith(separator[:length])), 0)
    return FIRST_PARTIAL + begun - 1 if begun else next_state(symbols, IN_UNQUOTED, byte)


@dataclasses.dataclass(frozen=True)
class IndexedRecords:
    """All records of some bytes, in their order: the good ones indexed by field, the broken ones by extent.

    Attributes:
      index: the records that are well-formed, not too long, and have exactly n_fields fields.
      broken_starts, broken_ends: int64, (n_broken,): extents without line end.
      broken_codes: uint8, (n_broken,): TOO_LONG, else MALFORMED, else RAGGED.
      broken_fields: int64, (n_broken,): fields found.
      broken_ordinals: int64, (n_broken,): 0-based position among all records.
      n_records: good and broken records.
      skipped_lines: blank lines and comments.
    """

    index: FieldIndex
    broken_starts: npt.NDArray[np.int64]
    broken_ends: npt.NDArray[np.int64]
    broken_codes: npt.NDArray[np.uint8]
    broken_fields: npt.NDArray[np.int64]
    broken_ordinals: npt.NDArray[np.int64]
    n_records: int
    skipped_lines: int

    def ordinals(self) -> npt.NDArray[np.int64]:
        """0-based position of each good record among all records: int64, (index.n_records,)."""
        return np.delete(np.arange(self.n_records, dtype=np.int64), self.broken_ordinals)

    def record_extents(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Start and end (without line end) of each good record: int64, (index.n_records,) each."""
        ends = self.index.field_ends[:, -1] >> FLAG_BITS
        return self.index.record_starts.astype(np.int64), ends.astype(np.int64)


def index_records(
    data: npt.NDArray[np.uint8], dialect: Dialect, n_fields: int, max_record_bytes: int
) -> IndexedRecords:
    """Indexes every record of data, uint8 (n_bytes,), contiguous, whose first byte starts a record.

    Memory: up to 4 bytes for each field, 4 for each record; the arrays are allocated for the most fields that the bytes can
    hold, but only what is used is ever touched, so the rest never becomes resident.

    Raises:
      ValueError: data of 1 GiB or more, n_fields below 1, or a dialect whose characters clash.
    """
    if data.size >= MAX_INDEXED_BYTES:
        raise ValueError(
            f"cannot index {data.size} bytes at once; the limit is {MAX_INDEXED_BYTES - 1} bytes: use smaller chunks"
        )
    if n_fields < 1:
        raise ValueError(f"n_fields is {n_fields} fields; a record has at least 1")
    symbols = Symbols.of(dialect)
    data = read_only(data)
    # Each field consumes at least one byte, its delimiter or line end, but for the last of the data.
    field_ends = np.empty(data.size + 1, dtype=np.uint32)
    record_starts = np.empty(data.size // n_fields + 1, dtype=np.uint32)
    broken = np.empty((_FIRST_BROKEN, 5), dtype=np.int64)
    at = good = n_records = skipped = n_broken = 0
    while True:
        at, good, n_records, skipped, n_broken = _index(
            data,
            (at, good, n_records, skipped, n_broken),
            n_fields,
            max_record_bytes,
            (symbols.delimiter, symbols.quote, symbols.escape, symbols.comment),
            symbols.structural,
            (symbols.doubled, symbols.lf_ends, symbols.cr_ends),
            np.frombuffer(symbols.rest, dtype=np.uint8) if symbols.rest else (),
            field_ends,
            record_starts,
            broken,
        )
        if at == data.size:
            break
        broken = np.concatenate([broken, np.empty_like(broken)])
    starts, ends, codes, fields, ordinals = np.ascontiguousarray(broken[:n_broken].T)
    return IndexedRecords(
        FieldIndex(
            data,
            record_starts[:good],
            field_ends[: good * n_fields].reshape(good, n_fields),
            delimiter_bytes=1 + len(symbols.rest),
        ),
        starts,
        ends,
        codes.astype(np.uint8),
        fields,
        ordinals,
        n_records,
        skipped,
    )


def count_lines(data: npt.NDArray[np.uint8], line_end: str) -> int:
    """Number of physical line ends in data: LFs; with line_end "any" also CRs that no LF follows; with "cr" CRs alone.

    Data may be cut at any record start: the sum over the parts is that of the whole.
    """
    if line_end == "cr":
        return int(np.count_nonzero(data == CR))
    return int(_count_lines(read_only(data), line_end != "lf"))


def read_only(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A read-only view, so that kernels are compiled for one type of array whether bytes are mapped or allocated."""
    view: npt.NDArray[np.uint8] = data.view()
    view.flags.writeable = False
    return view


def _rest_bytes(rest: Any) -> int:
    """Length of the delimiter behind its first byte: a constant 0 in what is compiled for delimiters of one byte."""
    raise NotImplementedError


@overload(_rest_bytes)
def _rest_bytes_of(rest):  # type: ignore[no-untyped-def]
    if isinstance(rest, types.BaseTuple):
        return lambda rest: 0
    return lambda rest: rest.size


def _follows(data: Any, at: Any, rest: Any) -> bool:
    """Whether the rest of the delimiter stands in data at an offset."""
    raise NotImplementedError


@overload(_follows)
def _follows_of(data, at, rest):  # type: ignore[no-untyped-def]
    if isinstance(rest, types.BaseTuple):
        return lambda data, at, rest: True

    def compared(data, at, rest):  # type: ignore[no-untyped-def]
        same = at + rest.size <= data.size
        position = 0
        while same and position < rest.size:
            same = data[at + position] == rest[position]
            position += 1
        return same

    return compared


@njit(nogil=True, cache=True)
def _index(  # type: ignore[no-untyped-def]
    data, progress, n_fields, max_record_bytes, roles, structural, modes, rest, field_ends, record_starts, broken
):
    """Indexes from the record start progress[0] to the end of data, or until `broken` is full.

    `rest`, the delimiter's bytes behind its first one, is an empty tuple for a delimiter of one byte, so that this most
    common case is compiled by itself, without the questions that the others ask.

    Returns progress: the record start reached, good records, all records, skipped lines, broken records.
    """
    width = 1 + _rest_bytes(rest)
    delimiter, quote, escape, comment = roles
    doubled, lf_ends, cr_ends = modes
    n = data.size
    record_start, good, n_records, skipped, n_broken = progress
    # Fields of the record being read are written behind those of the good records, and stay there if it is good.
    first_field = good * n_fields
    field = first_field
    field_start = record_start
    flags = 0
    malformed = False
    resume = record_start  # structural bytes before it have been dealt with, or are taken literally
    state = IN_COMMENT if record_start < n and data[record_start] == comment else IN_UNQUOTED
    positions = np.empty(_SEGMENT_BYTES + UNROLLED, dtype=np.uint32)
    for segment in range(record_start, n + 1, _SEGMENT_BYTES):
        segment_end = min(segment + _SEGMENT_BYTES, n)
        found = positions_of(data, segment, segment_end, structural, positions)
        if segment_end - segment < _SEGMENT_BYTES:
            positions[found] = n  # the end of the data
            found += 1
        i = 0
        while i < found:
            at = positions[i]
            i += 1
            if at < resume:
                continue
            byte = types.int64(data[at]) if at < n else types.int64(LF)
            if at < n and state != IN_COMMENT:
                if state == IN_QUOTED:
                    if byte == quote:
                        after = types.int64(data[at + 1]) if at + 1 < n else types.int64(NO_BYTE)
                        if after == delimiter and _follows(data, at + 2, rest):
                            field_ends[field] = (at + 1) << FLAG_BITS | flags
                            field += 1
                            field_start = at + 1 + width
                            i += 1
                            if field_start < n and data[field_start] == quote:
                                flags = QUOTED
                                resume = field_start + 1
                                i += width == 1
                            else:
                                flags = 0
                                state = IN_UNQUOTED
                                resume = field_start
                        elif after == quote and doubled:
                            flags |= ESCAPED
                            resume = at + 2
                        elif (
                            at + 1 == n
                            or (after == LF and lf_ends)
                            or (after == CR and (cr_ends or (at + 2 < n and data[at + 2] == LF)))
                        ):
                            state = IN_UNQUOTED
                        else:
                            malformed = True
                            resume = min(at + 2, n)
                    elif byte == escape:
                        flags |= ESCAPED
                        malformed |= at + 1 == n
                        resume = min(at + 2, n)
                    continue
                if byte == delimiter:
                    if not _follows(data, at + 1, rest):
                        continue
                    field_ends[field] = at << FLAG_BITS | flags
                    field += 1
                    flags = 0
                    while i < found:
                        following = positions[i]
                        if following == n or data[following] != delimiter:
                            break
                        if width > 1 and (following < at + width or not _follows(data, following + 1, rest)):
                            i += 1
                            continue
                        at = following
                        field_ends[field] = at << FLAG_BITS
                        field += 1
                        i += 1
                    field_start = at + width
                    if width > 1:
                        resume = field_start
                    continue
                if byte == quote:
                    if at == field_start:
                        state = IN_QUOTED
                        flags = QUOTED
                    continue
                if byte == escape:
                    flags |= ESCAPED
                    malformed |= at + 1 == n
                    resume = min(at + 2, n)
                    continue
            elif at < n and byte != LF and byte != CR:
                continue  # in a comment
            end = at
            next_start = at + 1
            if at == n:
                if record_start == n:
                    break
                malformed |= state == IN_QUOTED
                next_start = n
            elif byte == LF:
                if at > field_start and at > resume and data[at - 1] == CR:
                    end = at - 1
            elif lf_ends and next_start < n and data[next_start] == LF:
                next_start += 1
            if state == IN_COMMENT or (field == first_field and end == record_start):
                skipped += 1
            else:
                field_ends[field] = end << FLAG_BITS | flags
                field += 1
                n_found = field - first_field
                length = end - record_start
                if n_found == n_fields and not malformed and length <= max_record_bytes:
                    record_starts[good] = record_start
                    good += 1
                    first_field = field
                else:
                    broken[n_broken, 0] = record_start
                    broken[n_broken, 1] = end
                    broken[n_broken, 2] = TOO_LONG if length > max_record_bytes else MALFORMED if malformed else RAGGED
                    broken[n_broken, 3] = n_found
                    broken[n_broken, 4] = n_records
                    n_broken += 1
                    field = first_field
                n_records += 1
            record_start = next_start
            field_start = next_start
            resume = next_start
            flags = 0
            malformed = False
            state = IN_COMMENT if record_start < n and data[record_start] == comment else IN_UNQUOTED
            if n_broken == broken.shape[0]:
                return record_start, good, n_records, skipped, n_broken
    return n, good, n_records, skipped, n_broken


@njit(nogil=True, cache=True)
def _count_lines(data, count_cr):  # type: ignore[no-untyped-def]
    lines = 0
    cr_before = types.uint64(0)
    for base in range(0, data.size, BLOCK_BYTES):
        lf = block_mask(data, base, (types.uint8(LF),))
        lines += count_ones(lf)
        if count_cr:
            cr = block_mask(data, base, (types.uint8(CR),))
            lines += count_ones(cr) - count_ones(lf & (cr << types.uint64(1) | cr_before))
            cr_before = cr >> types.uint64(BLOCK_BYTES - 1)
    return lines
