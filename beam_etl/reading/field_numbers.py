"""Booleans, integers, decimals and doubles: strict kernels from text to Arrow buffers; fields.py has the type table."""

from __future__ import annotations

import ctypes
import decimal
import math

import numpy as np
import numpy.typing as npt
from numba import njit

from beam_etl.reading.field_values import (
    VALUE,
    ColumnFiller,
    FixedWidthFiller,
    Packed,
    Slots,
    Values,
    byte_at,
    leave_misfits,
    locate,
    refuse,
)
from beam_etl.schema import LONG_DECIMAL_DIGITS, SHORT_DECIMAL_DIGITS, ColumnType

_MINUS, _PLUS, _ZERO = 45, 43, 48
_BOOLEANS = np.frombuffer(b"trueTrueTRUEfalseFalseFALSE", np.uint8)
_EXPONENT_MARKS = (69, 101)
_INT64_MAX = np.uint64(2**63 - 1)
_UINT64_DIGITS = 19  # any number of so many digits fits 64 bits

# Clinger, "How to Read Floating Point Numbers Accurately", PLDI 1990: with at most 15 digits and a power of ten up to
# 10**22 both are exact doubles, so one multiplication or division rounds correctly.
_EXACT_SIGNIFICANDS = np.uint64(10**15)
_EXACT_POWERS = np.array([10.0**i for i in range(23)])
_INTEGER_POWERS = np.array([10**i for i in range(20)], np.uint64)
_INT128 = np.dtype([("low", np.uint64), ("high", np.uint64)])
_MAX_EXPONENT = 100_000  # where reading of an exponent's digits stops: far beyond what a double holds


def boolean_filler(column_type: ColumnType, n_records: int) -> ColumnFiller:
    return FixedWidthFiller(column_type.arrow, n_records, np.uint8, _fill_boolean)


def bigint_filler(column_type: ColumnType, n_records: int) -> ColumnFiller:
    return FixedWidthFiller(column_type.arrow, n_records, np.int64, _fill_bigint)


def decimal_filler(column_type: ColumnType, n_records: int) -> ColumnFiller:
    kernel = _fill_short_decimal if column_type.precision <= SHORT_DECIMAL_DIGITS else _fill_long_decimal
    mark, precision, scale = ord(column_type.format), column_type.precision, column_type.scale
    return FixedWidthFiller(column_type.arrow, n_records, _INT128, kernel, mark, precision, scale)


def double_filler(column_type: ColumnType, n_records: int) -> ColumnFiller:
    return FixedWidthFiller(column_type.arrow, n_records, np.float64, _fill_exact_doubles, column_type.format)


def decimal_digits(values: Packed, mark: str) -> tuple[int, int] | None:
    """The most integer and fraction digits of any value, or None where one is not a decimal of up to 38 digits."""
    integer_digits, fraction_digits = _decimal_digits(values, ord(mark))
    return None if integer_digits < 0 else (integer_digits, fraction_digits)


def _fill_exact_doubles(
    values: Packed, slots: Packed, first: int, stop: int, numbers: npt.NDArray[np.float64], mark: str
) -> tuple[int, int]:
    nulls, misfits, hard = _fill_double(values, slots, first, stop, numbers, ord(mark))
    lost = []
    for record, begin, end in hard:
        text = ctypes.string_at(values[0] + begin, end - begin).decode("ascii").replace(mark, ".")
        numbers[record] = float(text)
        if not _holds_exactly(float(text), text):
            numbers[record] = 0
            lost.append(record)
    leave_misfits(slots, np.array(lost, np.int64))
    return nulls + len(lost), misfits + len(lost)


def _holds_exactly(number: float, text: str) -> bool:
    if number == 0:  # a number other than zero may have been too small
        return not text.lower().partition("e")[0].strip("-0.")
    return math.isfinite(number) and decimal.Decimal(repr(number)) == decimal.Decimal(text)


@njit(nogil=True, cache=True)
def _fill_boolean(
    packed_values: Packed, packed_slots: Packed, first: int, stop: int, bits: npt.NDArray[np.uint8]
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, value = False, 0
        if state == VALUE:
            fits, value = _parse_boolean(values.text, begin, end)
        if record & 7 == 0:
            bits[record >> 3] = 0
        bits[record >> 3] |= np.uint8(value << (record & 7))
        if not fits:
            nulls += 1
            refused += refuse(slots, record, state)
    return nulls, refused


@njit(nogil=True, cache=True, forceinline=True)
def _parse_boolean(text: int, begin: int, end: int) -> tuple[bool, int]:
    length = end - begin
    if length == 4:
        word = 0
    elif length == 5:
        word = 12
    else:
        return False, 0
    for start in range(word, word + 3 * length, length):
        matched = 0
        while matched < length and byte_at(text, begin + matched) == _BOOLEANS[start + matched]:
            matched += 1
        if matched == length:
            return True, np.int64(length == 4)
    return False, 0


@njit(nogil=True, cache=True)
def _fill_bigint(
    packed_values: Packed, packed_slots: Packed, first: int, stop: int, numbers: npt.NDArray[np.int64]
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, number = False, np.int64(0)
        if state == VALUE:
            fits, number = _parse_bigint(values.text, begin, end)
        numbers[record] = number
        if not fits:
            nulls += 1
            refused += refuse(slots, record, state)
    return nulls, refused


@njit(nogil=True, cache=True, forceinline=True)
def _parse_bigint(text: int, begin: int, end: int) -> tuple[bool, int]:
    negative = byte_at(text, begin) == _MINUS
    begin += negative
    digits = end - begin
    if digits < 1 or digits > _UINT64_DIGITS:
        return False, np.int64(0)
    if byte_at(text, begin) == _ZERO:
        return digits == 1 and not negative, np.int64(0)
    total = np.uint64(0)
    for at in range(begin, end):
        digit = np.uint8(byte_at(text, at) - _ZERO)
        if digit > 9:
            return False, np.int64(0)
        total = total * np.uint64(10) + np.uint64(digit)
    if total > _INT64_MAX + np.uint64(negative):
        return False, np.int64(0)
    number = np.int64(total)
    return True, -number if negative else number


@njit(nogil=True, cache=True, forceinline=True)
def _scan_number(text: int, begin: int, end: int, mark: int) -> tuple[int, int, int, int, np.uint64]:
    """Reads -?(0|[1-9][0-9]*)(mark[0-9]+)? as far as it goes.

    Returns (where it stopped, or -1 where it does not match; first digit; integer digits, 0 for a single zero; fraction
    digits; all digits as one integer, modulo 2**64).
    """
    at = begin + (byte_at(text, begin) == _MINUS)
    first = at
    total = np.uint64(0)
    while at < end:
        digit = np.uint8(byte_at(text, at) - _ZERO)
        if digit > 9:
            break
        total = total * np.uint64(10) + np.uint64(digit)
        at += 1
    integer_digits = at - first
    if integer_digits == 0:
        return -1, first, 0, 0, total
    if byte_at(text, first) == _ZERO:
        if integer_digits > 1:
            return -1, first, 0, 0, total
        integer_digits = 0
    fraction_digits = 0
    if at < end and byte_at(text, at) == mark:
        at += 1
        after_mark = at
        while at < end:
            digit = np.uint8(byte_at(text, at) - _ZERO)
            if digit > 9:
                break
            total = total * np.uint64(10) + np.uint64(digit)
            at += 1
        fraction_digits = at - after_mark
        if fraction_digits == 0:
            return -1, first, 0, 0, total
    return at, first, integer_digits, fraction_digits, total


@njit(nogil=True, cache=True)
def _decimal_digits(packed_values: Packed, mark: int) -> tuple[int, int]:
    values = Values(*packed_values)
    most_integer = most_fraction = 0
    for record in range(values.n_records):
        state, begin, end = locate(values, record)
        if state < VALUE:
            continue
        after, _, integer_digits, fraction_digits, _ = _scan_number(values.text, begin, end, mark)
        if state != VALUE or after != end or integer_digits + fraction_digits > LONG_DECIMAL_DIGITS:
            return -1, -1
        most_integer = max(most_integer, integer_digits)
        most_fraction = max(most_fraction, fraction_digits)
    return most_integer, most_fraction


@njit(nogil=True, cache=True)
def _fill_short_decimal(
    packed_values: Packed,
    packed_slots: Packed,
    first: int,
    stop: int,
    lanes: npt.NDArray[np.void],
    mark: int,
    precision: int,
    scale: int,
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, total = False, np.uint64(0)
        if state == VALUE:
            after, _, integer_digits, fraction_digits, total = _scan_number(values.text, begin, end, mark)
            fits = after == end and integer_digits <= precision - scale and fraction_digits <= scale
        if fits:
            number = np.int64(total * _INTEGER_POWERS[scale - fraction_digits])
            if byte_at(values.text, begin) == _MINUS:
                number = -number
            lanes[record].low = np.uint64(number)
            lanes[record].high = np.uint64(number >> 63)
        else:
            lanes[record].low = np.uint64(0)
            lanes[record].high = np.uint64(0)
            nulls += 1
            refused += refuse(slots, record, state)
    return nulls, refused


@njit(nogil=True, cache=True)
def _fill_long_decimal(
    packed_values: Packed,
    packed_slots: Packed,
    first: int,
    stop: int,
    lanes: npt.NDArray[np.void],
    mark: int,
    precision: int,
    scale: int,
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, low, high = False, np.uint64(0), np.uint64(0)
        if state == VALUE:
            after, digits, integer_digits, fraction_digits, low = _scan_number(values.text, begin, end, mark)
            fits = after == end and integer_digits <= precision - scale and fraction_digits <= scale
            if fits:
                low, high = _long_total(values.text, digits, end, mark, scale - fraction_digits)
        if fits and byte_at(values.text, begin) == _MINUS:
            low, high = ~low + np.uint64(1), ~high + np.uint64(low == 0)
        if not fits:
            low, high = np.uint64(0), np.uint64(0)
            nulls += 1
            refused += refuse(slots, record, state)
        lanes[record].low = low
        lanes[record].high = high
    return nulls, refused


@njit(nogil=True, cache=True)
def _long_total(text: int, begin: int, end: int, mark: int, zeros: int) -> tuple[np.uint64, np.uint64]:
    """(low, high) 64 bits of the integer that the digits in [begin, end) and so many more zeros write."""
    low = high = np.uint64(0)
    for at in range(begin, end + zeros):
        digit = np.uint64(0)
        if at < end:
            if byte_at(text, at) == mark:
                continue
            digit = np.uint64(byte_at(text, at) - _ZERO)
        small = (low & np.uint64(0xFFFFFFFF)) * np.uint64(10) + digit
        large = (low >> np.uint64(32)) * np.uint64(10) + (small >> np.uint64(32))
        low = (large << np.uint64(32)) | (small & np.uint64(0xFFFFFFFF))
        high = high * np.uint64(10) + (large >> np.uint64(32))
    return low, high


@njit(nogil=True, cache=True)
def _fill_double(
    packed_values: Packed, packed_slots: Packed, first: int, stop: int, numbers: npt.NDArray[np.float64], mark: int
) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Fills what one exact operation can; lists (record, begin, end) of the numbers that need more than that."""
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    hard = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, exact, number = False, True, 0.0
        if state == VALUE:
            fits, exact, number = _parse_double(values.text, begin, end, mark)
        numbers[record] = number
        if not fits:
            nulls += 1
            refused += refuse(slots, record, state)
        elif not exact:
            hard.append((record, begin, end))
    return nulls, refused, hard


@njit(nogil=True, cache=True, forceinline=True)
def _parse_exponent(text: int, at: int, end: int) -> tuple[bool, int]:
    """(it is ([eE][+-]?[0-9]+)?, the exponent, or _MAX_EXPONENT beyond that)."""
    exponent = np.int64(0)
    if at == end:
        return True, exponent
    if byte_at(text, at) not in _EXPONENT_MARKS:
        return False, exponent
    first = at + 1
    negative = first < end and byte_at(text, first) == _MINUS
    if negative or (first < end and byte_at(text, first) == _PLUS):
        first += 1
    for i in range(first, end):
        digit = np.uint8(byte_at(text, i) - _ZERO)
        if digit > 9:
            return False, exponent
        exponent = min(exponent * 10 + np.int64(digit), _MAX_EXPONENT)
    return first < end, -exponent if negative else exponent


@njit(nogil=True, cache=True, forceinline=True)
def _parse_double(text: int, begin: int, end: int, mark: int) -> tuple[bool, bool, float]:
    """(it is a number, the third is its exact value, value)."""
    at, _, integer_digits, fraction_digits, total = _scan_number(text, begin, end, mark)
    if at < 0:
        return False, True, 0.0
    is_number, exponent = _parse_exponent(text, at, end)
    if not is_number:
        return False, True, 0.0
    if integer_digits + fraction_digits > _UINT64_DIGITS or total >= _EXACT_SIGNIFICANDS:
        return True, False, 0.0
    exponent -= fraction_digits
    if total == 0:
        number = 0.0
    elif 0 <= exponent <= 22:
        number = np.float64(total) * _EXACT_POWERS[exponent]
    elif -22 <= exponent < 0:
        number = np.float64(total) / _EXACT_POWERS[-exponent]
    else:
        return True, False, 0.0
    return True, True, -number if byte_at(text, begin) == _MINUS else number
