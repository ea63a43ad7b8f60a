"""Dates and timestamps: strict kernels from text to Arrow buffers. See fields.py for what they accept."""

from __future__ import annotations

from typing import NamedTuple

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
    locate,
    refuse,
)
from beam_etl.schema import ColumnType

_ZERO, _PLUS, _MINUS, _COLON, _DOT, _LETTER_Z = 48, 43, 45, 58, 46, 90
_BAD_DIGITS = -(10**6)  # no sum of a few digits brings it back to a number
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_DAYS_BEFORE_MONTH = np.concatenate([[0, 0], np.cumsum(_MONTH_DAYS[1:12])])
_DAYS_TO_EPOCH = 719_162  # from 0001-01-01 to 1970-01-01
_DAY_MICROSECONDS = 86_400_000_000
_FIRST_INSTANT = -_DAYS_TO_EPOCH * _DAY_MICROSECONDS  # 0001-01-01T00:00:00
_END_OF_INSTANTS = 2_932_897 * _DAY_MICROSECONDS  # 10000-01-01T00:00:00

# Eight digits are more often a number than a date; where the type was inferred, a day must be in these centuries.
_PLAIN_YEARS = (1800, 2199)
_ALL_YEARS = (1, 9999)

MAX_OFFSET_MINUTES = 15 * 60 + 59  # PostgreSQL's limit


class DateLayout(NamedTuple):
    """Where the parts of a date stand in its text; separator 0 stands for none."""

    length: int
    year_at: int
    month_at: int
    day_at: int
    separator: int
    first_separator_at: int
    second_separator_at: int
    first_year: int
    last_year: int


class ZoneRule(NamedTuple):
    """What may follow the time of day: nothing, a literal Z, an offset in minutes from least to most."""

    none: bool
    letter_z: bool
    least_offset: int
    most_offset: int


def date_filler(column_type: ColumnType, n_records: int, declared: bool) -> ColumnFiller:
    layout = _date_layout(column_type.format, declared)
    return FixedWidthFiller(column_type.arrow, n_records, np.int32, _fill_date, layout)


def timestamp_filler(column_type: ColumnType, n_records: int, declared: bool) -> ColumnFiller:
    separators = (ord("T"), ord(" ")) if declared else (ord(column_type.format),) * 2
    rule = _zone_rule(column_type.zone, declared)
    return FixedWidthFiller(column_type.arrow, n_records, np.int64, _fill_timestamp, separators, rule, _no_bounds())


def offset_bounds(values: Packed, n_records: int, column_type: ColumnType) -> tuple[int, int] | None:
    """The least and the greatest offset in minutes, or None where a value is no timestamp with an offset."""
    separators, bounds = (ord(column_type.format),) * 2, _no_bounds()
    rule = ZoneRule(False, False, -MAX_OFFSET_MINUTES, MAX_OFFSET_MINUTES)
    filler = FixedWidthFiller(column_type.arrow, n_records, np.int64, _fill_timestamp, separators, rule, bounds)
    filler.fill(values, 0, n_records)
    return None if filler.slots.misfit_count else (int(bounds[0]), int(bounds[1]))


def _no_bounds() -> npt.NDArray[np.int64]:
    return np.array([MAX_OFFSET_MINUTES, -MAX_OFFSET_MINUTES], np.int64)


def _date_layout(text: str, declared: bool) -> DateLayout:
    separators = [at for at, letter in enumerate(text) if letter not in "YMD"] or [0, 0]
    first_year, last_year = _PLAIN_YEARS if len(text) == 8 and not declared else _ALL_YEARS
    return DateLayout(
        length=len(text),
        year_at=text.index("Y"),
        month_at=text.index("M"),
        day_at=text.index("D"),
        separator=0 if text[separators[0]] in "YMD" else ord(text[separators[0]]),
        first_separator_at=separators[0],
        second_separator_at=separators[1],
        first_year=first_year,
        last_year=last_year,
    )


def _zone_rule(zone: str, declared: bool) -> ZoneRule:
    if zone == "":
        return ZoneRule(True, False, 1, 0)
    if declared:
        return ZoneRule(False, True, -MAX_OFFSET_MINUTES, MAX_OFFSET_MINUTES)
    if zone == "Z":
        return ZoneRule(False, True, 1, 0)
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    offset = -minutes if zone[0] == "-" else minutes
    return ZoneRule(False, False, offset, offset)


@njit(nogil=True, cache=True, forceinline=True)
def _digits(text: int, at: int, count: int) -> int:
    """The number that so many digits write; far below zero where one is not a digit."""
    number = np.int64(0)
    for i in range(at, at + count):
        digit = np.uint8(byte_at(text, i) - _ZERO)
        if digit > 9:
            return _BAD_DIGITS
        number = number * 10 + np.int64(digit)
    return int(number)


@njit(nogil=True, cache=True, forceinline=True)
def _day_number(year: int, month: int, day: int) -> tuple[bool, int]:
    """(it is a day of the Gregorian calendar from year 1 on, days since 1970-01-01)."""
    if year < 1 or month < 1 or month > 12 or day < 1:
        return False, 0
    leap = year & 3 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _MONTH_DAYS[month] and not (leap and month == 2 and day == 29):
        return False, 0
    past = year - 1
    days = past * 365 + (past >> 2) - past // 100 + past // 400
    days += _DAYS_BEFORE_MONTH[month] + (leap and month > 2) + day - 1
    return True, days - _DAYS_TO_EPOCH


@njit(nogil=True, cache=True)
def _fill_date(
    packed_values: Packed, packed_slots: Packed, first: int, stop: int, days: npt.NDArray[np.int32], layout: DateLayout
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, day = False, 0
        if state == VALUE and end - begin == layout.length:
            fits, day = _parse_date(values.text, begin, layout)
        days[record] = day
        if not fits:
            nulls += 1
            refused += refuse(slots, record, state)
    return nulls, refused


@njit(nogil=True, cache=True, forceinline=True)
def _parse_date(text: int, begin: int, layout: DateLayout) -> tuple[bool, int]:
    if layout.separator and (
        byte_at(text, begin + layout.first_separator_at) != layout.separator
        or byte_at(text, begin + layout.second_separator_at) != layout.separator
    ):
        return False, 0
    year = _digits(text, begin + layout.year_at, 4)
    if year < layout.first_year or year > layout.last_year:
        return False, 0
    return _day_number(year, _digits(text, begin + layout.month_at, 2), _digits(text, begin + layout.day_at, 2))


@njit(nogil=True, cache=True)
def _fill_timestamp(
    packed_values: Packed,
    packed_slots: Packed,
    first: int,
    stop: int,
    instants: npt.NDArray[np.int64],
    separators: tuple[int, int],
    rule: ZoneRule,
    bounds: npt.NDArray[np.int64],
) -> tuple[int, int]:
    values = Values(*packed_values)
    slots = Slots(*packed_slots)
    nulls = refused = 0
    for record in range(first, stop):
        state, begin, end = locate(values, record)
        fits, instant = False, np.int64(0)
        if state == VALUE:
            fits, instant, offset = _parse_timestamp(values.text, begin, end, separators, rule)
        instants[record] = instant
        if fits:
            bounds[0] = min(bounds[0], offset)
            bounds[1] = max(bounds[1], offset)
        else:
            nulls += 1
            refused += refuse(slots, record, state)
    return nulls, refused


@njit(nogil=True, cache=True, forceinline=True)
def _parse_timestamp(
    text: int, begin: int, end: int, separators: tuple[int, int], rule: ZoneRule
) -> tuple[bool, int, int]:
    """(it fits, microseconds since 1970-01-01 in UTC, offset in minutes) of YYYY-MM-DD<separator>HH:MM:SS..."""
    no = (False, np.int64(0), np.int64(0))
    if end - begin < 19 or byte_at(text, begin + 4) != _MINUS or byte_at(text, begin + 7) != _MINUS:
        return no
    if byte_at(text, begin + 10) != separators[0] and byte_at(text, begin + 10) != separators[1]:
        return no
    if byte_at(text, begin + 13) != _COLON or byte_at(text, begin + 16) != _COLON:
        return no
    is_day, day = _day_number(_digits(text, begin, 4), _digits(text, begin + 5, 2), _digits(text, begin + 8, 2))
    hour, minute, second = _digits(text, begin + 11, 2), _digits(text, begin + 14, 2), _digits(text, begin + 17, 2)
    if not is_day or min(hour, minute, second) < 0 or hour > 23 or minute > 59 or second > 59:
        return no
    instant = ((day * 24 + hour) * 60 + minute) * np.int64(60_000_000) + second * np.int64(1_000_000)
    at = begin + 19
    if at < end and byte_at(text, at) == _DOT:
        at += 1
        unit = np.int64(1_000_000)
        while at < end and np.uint8(byte_at(text, at) - _ZERO) <= 9:
            unit //= 10
            if unit == 0:
                return no
            instant += unit * np.int64(np.uint8(byte_at(text, at) - _ZERO))
            at += 1
        if unit == 1_000_000:
            return no
    fits, offset = _parse_zone(text, at, end, rule)
    instant -= offset * np.int64(60_000_000)
    if not fits or instant < _FIRST_INSTANT or instant >= _END_OF_INSTANTS:
        return no
    return True, instant, offset


@njit(nogil=True, cache=True, forceinline=True)
def _parse_zone(text: int, at: int, end: int, rule: ZoneRule) -> tuple[bool, int]:
    """(it fits, offset in minutes) of what follows the time of day."""
    if at == end:
        return rule.none, np.int64(0)
    if at + 1 == end:
        return rule.letter_z and byte_at(text, at) == _LETTER_Z, np.int64(0)
    sign = byte_at(text, at)
    if at + 6 != end or (sign != _PLUS and sign != _MINUS) or byte_at(text, at + 3) != _COLON:
        return False, np.int64(0)
    hours, minutes = _digits(text, at + 1, 2), _digits(text, at + 4, 2)
    if hours < 0 or minutes < 0 or minutes > 59:
        return False, np.int64(0)
    offset = hours * 60 + minutes
    if sign == _MINUS:
        if offset == 0:  # RFC 3339: -00:00 means that the local offset is unknown, which UTC would not keep
            return False, np.int64(0)
        offset = -offset
    return rule.least_offset <= offset <= rule.most_offset, offset
