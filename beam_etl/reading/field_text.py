"""Text: kernels that undo quoting, check or translate the encoding, and fill Arrow's UTF-8 buffers."""

from __future__ import annotations

import codecs
import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from beam_etl.reading.field_index import FLAG_BITS
from beam_etl.reading.field_values import (
    ABSENT,
    ESCAPED_VALUE,
    MISFIT_NUL,
    MISFIT_UNDECODABLE,
    VALUE,
    ColumnResult,
    ColumnSlots,
    Packed,
    Slots,
    TextRules,
    Values,
    byte_at,
    leave_misfits,
    leave_null,
    load8,
    locate,
    store8,
    store_byte,
    word_at,
)

_SLACK = 16  # text is moved eight or sixteen bytes at a time, so up to so many bytes beyond it are touched
_GROWTH = 1.05  # over what the blocks so far let expect of the whole column
_HIGH_BITS = np.uint64(0x8080808080808080)
_LOW_BITS = np.uint64(0x0101010101010101)
_MAX_TEXT_BYTES = 2**31 - 1  # what the 32-bit offsets of Arrow's string type reach


class TextFiller:
    """Fills a string column.

    Each block is copied as it is; only a block with a byte that is not ASCII, or a NUL, is then checked, or translated.

    Raises:
      ValueError: the encoding is neither UTF-8 nor a one-byte, ASCII-transparent one.
    """

    def __init__(self, n_records: int, rules: TextRules, unseen: bool) -> None:
        self.slots = ColumnSlots(n_records)
        self._table = None if codecs.lookup(rules.encoding).name == "utf-8" else _utf8_table(rules.encoding)
        self._most_growth = 1 if self._table is None else int(self._table[1].max())
        self._reject_nul = rules.reject_nul
        self._unseen = unseen
        self._n_records = n_records
        self._offset_buffer = pa.allocate_buffer((n_records + 1) * 4)
        self._offsets = np.frombuffer(self._offset_buffer, np.int32)
        self._offsets[0] = 0
        self._text = pa.allocate_buffer(_SLACK, resizable=True)
        self._used = 0

    def fill(self, values: Packed, first: int, stop: int) -> None:
        """Fills the slots of records [first, stop).

        Raises:
          ValueError: the text of the column has more than 2 GiB.
        """
        if first == stop:
            return
        self._reserve(_most_bytes(values, first, stop) * self._most_growth, first)
        offsets, slots = self._offsets, self.slots.packed
        self.slots.null_count += _copy_text(values, slots, first, stop, offsets, self._text.address)
        misfits = _refuse_all(slots, first, offsets[first : stop + 1]) if self._unseen else 0
        if not _is_plain_text(self._text.address, offsets[first], offsets[stop], self._reject_nul):
            misfits = self._decode(first, stop)
        self.slots.misfit_count += misfits
        self.slots.null_count += misfits
        self._used = int(offsets[stop])

    def finish(self) -> ColumnResult:
        self._text.resize(self._used, shrink_to_fit=True)
        return self.slots.finish(pa.string(), self._offset_buffer, self._text)

    def _reserve(self, block_bytes: int, first: int) -> None:
        needed = self._used + block_bytes
        if needed > _MAX_TEXT_BYTES:
            raise ValueError("a column of one chunk holds more than 2 GiB of text; lower chunk_bytes")
        if needed + _SLACK > self._text.size:
            expected = int(self._used / first * self._n_records * _GROWTH) if first else 0
            self._text.resize(max(needed, min(expected, _MAX_TEXT_BYTES)) + _SLACK)

    def _decode(self, first: int, stop: int) -> int:
        offsets, slots, reject_nul = self._offsets, self.slots.packed, self._reject_nul
        if self._table is None:
            return int(_validate_utf8(self._text.address, offsets, slots, first, stop, reject_nul))
        one_byte_text = np.frombuffer(self._text, np.uint8)[offsets[first] : offsets[stop] + _SLACK].copy()
        return int(_translate(one_byte_text, self._text.address, offsets, slots, first, stop, reject_nul, *self._table))


@functools.cache
def _utf8_table(encoding: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """For each byte: its UTF-8 bytes, first one lowest, and their number; 0 where the encoding leaves it undefined."""
    every_byte = bytes(range(256))
    ascii_transparent = every_byte[:128].decode(encoding, "replace") == every_byte[:128].decode("ascii")
    if not ascii_transparent or len(every_byte.decode(encoding, "replace")) != 256:
        raise ValueError(
            f"encoding {encoding!r} is neither UTF-8 nor a one-byte encoding with ASCII; stage it as UTF-8"
        )
    words, lengths = np.zeros(256, np.uint64), np.zeros(256, np.int64)
    for byte in range(256):
        try:
            utf8 = bytes([byte]).decode(encoding).encode()
        except UnicodeDecodeError:
            continue
        words[byte], lengths[byte] = int.from_bytes(utf8, "little"), len(utf8)
    return words, lengths


def _refuse_all(slots: Packed, first: int, offsets: npt.NDArray[np.int32]) -> int:
    """Makes every value but the empty text a misfit; how many there were."""
    records = np.flatnonzero(np.diff(offsets))
    leave_misfits(slots, first + records)
    offsets[:] = offsets[0]
    return len(records)


@njit(nogil=True, cache=True)
def _most_bytes(packed_values: Packed, first: int, stop: int) -> int:
    """At least as many bytes as the field has in all these records."""
    values = Values(*packed_values)
    last = (stop - 1) * values.n_fields + values.field
    end = np.int64(word_at(values.field_ends, last) >> FLAG_BITS)
    return int(end - np.int64(word_at(values.record_starts, first)))


@njit(nogil=True, cache=True)
def _copy_text(
    packed_values: Packed, packed_slots: Packed, first: int, stop: int, offsets: npt.NDArray[np.int32], text: int
) -> int:
    """Appends values, without quotes and escapes, to the text at offsets[first]; the number of NULLs."""
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = 0
    at = np.int64(offsets[first])
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        if state == VALUE:
            if end + _SLACK <= values.text_bytes:
                for done in range(0, end - begin, 16):
                    store8(text, at + done, load8(values.text, begin + done))
                    store8(text, at + done + 8, load8(values.text, begin + done + 8))
            else:
                for done in range(end - begin):
                    store_byte(text, at + done, byte_at(values.text, begin + done))
            at += end - begin
        elif state == ESCAPED_VALUE:
            while begin < end:
                if byte_at(values.text, begin) == values.escape and begin + 1 < end:
                    begin += 1
                store_byte(text, at, byte_at(values.text, begin))
                begin += 1
                at += 1
        elif state == ABSENT:
            nulls += 1
            leave_null(slots, record, 0)
        offsets[record + 1] = at
    return nulls


@njit(nogil=True, cache=True, forceinline=True)
def _is_plain(word: np.uint64, reject_nul: bool) -> bool:
    """Eight bytes are all ASCII and, where it matters, none is NUL (exact as long as all are ASCII)."""
    if word & _HIGH_BITS:
        return False
    return not reject_nul or (word - _LOW_BITS) & _HIGH_BITS == 0


@njit(nogil=True, cache=True)
def _is_plain_text(text: int, begin: int, end: int, reject_nul: bool) -> bool:
    while begin + 8 <= end:
        if not _is_plain(load8(text, begin), reject_nul):
            return False
        begin += 8
    for at in range(begin, end):
        byte = byte_at(text, at)
        if byte >= 0x80 or (byte == 0 and reject_nul):
            return False
    return True


@njit(nogil=True, cache=True)
def _validate_utf8(
    text: int, offsets: npt.NDArray[np.int32], packed_slots: Packed, first: int, stop: int, reject_nul: bool
) -> int:
    """Takes out what is not UTF-8 and closes the gaps; the number of misfits."""
    slots = Slots(*packed_slots)
    misfits = 0
    at = np.int64(offsets[first])
    begin = at
    for record in range(first, stop):
        end = np.int64(offsets[record + 1])
        misfit = _utf8_misfit(text, begin, end, reject_nul)
        if misfit:
            misfits += 1
            leave_null(slots, record, misfit)
        else:
            if at < begin:
                for done in range(end - begin):
                    store_byte(text, at + done, byte_at(text, begin + done))
            at += end - begin
        offsets[record + 1] = at
        begin = end
    return misfits


@njit(nogil=True, cache=True)
def _utf8_misfit(text: int, begin: int, end: int, reject_nul: bool) -> int:
    """0 where the bytes are well-formed UTF-8 (The Unicode Standard, table 3-7), else the MISFIT_ code."""
    at = begin
    while at < end:
        if _is_plain(load8(text, at), reject_nul):
            at += 8
            continue
        lead = byte_at(text, at)
        if lead < 0x80:
            if lead == 0 and reject_nul:
                return MISFIT_NUL
            at += 1
            continue
        length = 2 + (lead >= 0xE0) + (lead >= 0xF0)
        if lead < 0xC2 or lead > 0xF4 or at + length > end:
            return MISFIT_UNDECODABLE
        # The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
        least = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        most = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        for i in range(at + 1, at + length):
            following = byte_at(text, i)
            if following < least or following > most:
                return MISFIT_UNDECODABLE
            least, most = 0x80, 0xBF
        at += length
    return 0


@njit(nogil=True, cache=True)
def _translate(
    one_byte_text: npt.NDArray[np.uint8],
    text: int,
    offsets: npt.NDArray[np.int32],
    packed_slots: Packed,
    first: int,
    stop: int,
    reject_nul: bool,
    words: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int64],
) -> int:
    """Writes text of one byte a character as UTF-8 from offsets[first] on, and its offsets; the number of misfits."""
    slots = Slots(*packed_slots)
    misfits = 0
    source = one_byte_text.ctypes.data
    at = np.int64(offsets[first])
    begin = np.int64(0)
    shift = at
    for record in range(first, stop):
        start = at
        end = np.int64(offsets[record + 1]) - shift
        while begin < end:
            word = load8(source, begin)
            if _is_plain(word, reject_nul):
                store8(text, at, word)
                step = min(np.int64(8), end - begin)
                at += step
                begin += step
                continue
            byte = byte_at(source, begin)
            if lengths[byte] == 0 or (byte == 0 and reject_nul):
                misfits += 1
                leave_null(slots, record, MISFIT_UNDECODABLE if lengths[byte] == 0 else MISFIT_NUL)
                at = start
                break
            store8(text, at, words[byte])
            at += lengths[byte]
            begin += 1
        begin = end
        offsets[record + 1] = at
    return misfits
