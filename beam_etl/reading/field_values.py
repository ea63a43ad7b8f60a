"""Where a field's value lies, when it is NULL, and the column that it fills: what every kernel starts from.

Kernels read and write through addresses: numba counts the references to an array at every branch of a function that
takes one, which costs several times what parsing a number does. numba caches compiled kernels by their own file: after
a change here, touch the other field_*.py modules (an installation writes all of them anew).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from beam_etl.reading.field_index import ESCAPED, FLAG_BITS, QUOTED, FieldIndex

MISFIT_VALUE = 1  # the text is not one that the column's type accepts
MISFIT_UNDECODABLE = 2  # the bytes are not text in the file's encoding
MISFIT_NUL = 3  # the text holds a NUL character, and a sink cannot

# What locate() finds. The order matters: up to EMPTY_TEXT nothing but a string column has a value.
ABSENT = 0  # NULL in every type: nothing between the delimiters, or a null marker
EMPTY_TEXT = 1  # "": the empty string, NULL in other types
VALUE = 2
ESCAPED_VALUE = 3  # its bytes are not yet its text

_BACKSLASH = 92
_WORD_BYTES = 4  # of record starts and field ends


@dataclasses.dataclass(frozen=True)
class TextRules:
    """How the bytes of fields become text.

    Attributes:
      encoding: Python codec name: UTF-8 or a one-byte, ASCII-transparent codec.
      quote: one ASCII character, or "".
      escape: "doubled", "backslash" or "none"; see Dialect.
      reject_nul: a text with a NUL character is a misfit.
    """

    encoding: str
    quote: str
    escape: str
    reject_nul: bool


@dataclasses.dataclass(frozen=True)
class ColumnResult:
    """One converted column.

    Attributes:
      array: (n_records,), of the column's Arrow type; a misfit's slot is NULL.
      misfits: uint8, (n_records,): 0 where the value fits, else a MISFIT_ code; None when all fit.
    """

    array: pa.Array
    misfits: npt.NDArray[np.uint8] | None


# Values or Slots as a plain tuple: what kernels take, because numba needs 6 us a call to unpack a named one.
Packed = tuple[int, ...]


class Values(NamedTuple):
    """One field of every record, as kernels use it: plain integers, so that numba counts no references in their loops.

    An address is that of an array's first byte; whoever makes Values keeps the arrays alive (FieldColumn).

    Attributes:
      text: address of the indexed bytes.
      text_bytes: how many they are.
      record_starts, field_ends: addresses of the arrays of FieldIndex.
      n_records, n_fields, field: the field's position, and those of how many records and fields.
      delimiter_bytes: length of the delimiter.
      absent: address of one byte a record, not 0 where the text is a null marker; 0 in a column without markers.
      escape: the byte that makes the next one plain (a quote that is doubled, or a backslash); 0 for none.
    """

    text: int
    text_bytes: int
    record_starts: int
    field_ends: int
    n_records: int
    n_fields: int
    field: int
    delimiter_bytes: int
    absent: int
    escape: int


class Slots(NamedTuple):
    """Which slots of a column are filled, as kernels take it.

    Attributes:
      validity: address of Arrow's bitmap; all ones to begin with.
      misfits: address of one MISFIT_ code a record; all zeros to begin with.
    """

    validity: int
    misfits: int


class FieldColumn:
    """One field of every record of an index, whose arrays it keeps alive."""

    def __init__(self, index: FieldIndex, field: int, null_markers: tuple[str, ...], rules: TextRules) -> None:
        self._data = np.ascontiguousarray(index.data, np.uint8)
        self._record_starts = np.ascontiguousarray(index.record_starts, np.uint32)
        self._field_ends = np.ascontiguousarray(index.field_ends, np.uint32)
        self._absent = np.zeros(index.n_records if null_markers else 0, np.uint8)
        escape = {"doubled": rules.quote, "backslash": "\\", "none": ""}[rules.escape]
        self._all = Values(
            text=self._data.ctypes.data,
            text_bytes=len(self._data),
            record_starts=self._record_starts.ctypes.data,
            field_ends=self._field_ends.ctypes.data,
            n_records=index.n_records,
            n_fields=index.n_fields,
            field=field,
            delimiter_bytes=index.delimiter_bytes,
            absent=self._absent.ctypes.data if null_markers else 0,
            escape=ord(escape) if escape else 0,
        )
        for marker in null_markers:
            with contextlib.suppress(UnicodeEncodeError):  # what the encoding cannot write matches nothing
                _find_marker(tuple(self._all), np.frombuffer(marker.encode(rules.encoding), np.uint8))

    def values(self, first: int, n_records: int) -> Packed:
        """The Values of up to n_records records from `first` on."""
        everything = self._all
        part = everything._replace(
            record_starts=everything.record_starts + first * _WORD_BYTES,
            field_ends=everything.field_ends + first * everything.n_fields * _WORD_BYTES,
            n_records=min(n_records, everything.n_records - first),
            absent=everything.absent + first if everything.absent else 0,
        )
        return tuple(part)


class ColumnSlots:
    """The validity bitmap and the misfits of a column that is being filled."""

    def __init__(self, n_records: int) -> None:
        self._validity = np.full((n_records + 7) // 8, 255, np.uint8)
        self._misfits = np.zeros(n_records, np.uint8)
        self.packed: Packed = (self._validity.ctypes.data, self._misfits.ctypes.data)
        self.null_count = 0  # misfits included
        self.misfit_count = 0

    def finish(self, arrow_type: pa.DataType, *buffers: pa.Buffer) -> ColumnResult:
        """Wraps filled buffers as one Arrow column, without a copy."""
        validity = pa.py_buffer(self._validity) if self.null_count else None
        array = pa.Array.from_buffers(arrow_type, len(self._misfits), [validity, *buffers], self.null_count)
        return ColumnResult(array, self._misfits if self.misfit_count else None)


class ColumnFiller(Protocol):
    """Fills a column block by block."""

    slots: ColumnSlots

    def fill(self, values: Packed, first: int, stop: int) -> None:
        """Fills the slots of records [first, stop), the next ones."""

    def finish(self) -> ColumnResult:
        """The column, once all blocks are filled."""


class FixedWidthFiller:
    """Fills a column whose values have all the same width.

    kernel(values, slots, first, stop, items, *parameters) fills items[first:stop], an array of dtype (or its bits, where
    it is a bitmap), and returns how many NULLs there are, and how many misfits among them.
    """

    def __init__(
        self,
        arrow_type: pa.DataType,
        n_records: int,
        dtype: npt.DTypeLike,
        kernel: Callable[..., tuple[int, int]],
        *parameters: Any,
    ) -> None:
        self.slots = ColumnSlots(n_records)
        self._arrow_type = arrow_type
        self._kernel = kernel
        self._parameters = parameters
        self._buffer = pa.allocate_buffer((n_records * arrow_type.bit_width + 7) // 8)
        self._items = np.frombuffer(self._buffer, dtype)

    def fill(self, values: Packed, first: int, stop: int) -> None:
        nulls, misfits = self._kernel(values, self.slots.packed, first, stop, self._items, *self._parameters)
        self.slots.null_count += nulls
        self.slots.misfit_count += misfits

    def finish(self) -> ColumnResult:
        return self.slots.finish(self._arrow_type, self._buffer)


def _machine_code(define: Callable[..., Any]) -> Callable[..., Any]:
    generator: Callable[..., Any] = intrinsic(define)
    return generator


def _pointer(builder: Any, bits: int, address: Any, at: Any) -> Any:
    return builder.inttoptr(builder.add(address, at), ir.IntType(bits).as_pointer())


@_machine_code
def byte_at(typing: Any, address: Any, at: Any) -> tuple[Any, Callable[..., Any]]:
    """byte_at(address, at) -> uint8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(builder, 8, *arguments))

    return types.uint8(types.intp, types.intp), generate


@_machine_code
def store_byte(typing: Any, address: Any, at: Any, byte: Any) -> tuple[Any, Callable[..., Any]]:
    """store_byte(address, at, byte)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address_value, at_value, byte_value = arguments
        builder.store(byte_value, _pointer(builder, 8, address_value, at_value))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.uint8), generate


@_machine_code
def word_at(typing: Any, address: Any, position: Any) -> tuple[Any, Callable[..., Any]]:
    """word_at(address, position) -> uint32: one of an array of them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address_value, position_value = arguments
        offset = builder.shl(position_value, ir.Constant(position_value.type, 2))
        return builder.load(_pointer(builder, 32, address_value, offset))

    return types.uint32(types.intp, types.intp), generate


@_machine_code
def load8(typing: Any, address: Any, at: Any) -> tuple[Any, Callable[..., Any]]:
    """load8(address, at) -> uint64: eight bytes, which must all lie inside the array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(builder, 64, *arguments), align=1)

    return types.uint64(types.intp, types.intp), generate


@_machine_code
def store8(typing: Any, address: Any, at: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    """store8(address, at, word): eight bytes, which must all lie inside the array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address_value, at_value, word_value = arguments
        builder.store(word_value, _pointer(builder, 64, address_value, at_value), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.uint64), generate


@njit(nogil=True, cache=True, forceinline=True)
def locate(values: Values, record: int) -> tuple[int, int, int]:
    """(ABSENT, EMPTY_TEXT, VALUE or ESCAPED_VALUE; begin; end): where a value's bytes lie within its quotes."""
    position = record * values.n_fields + values.field
    packed = np.int64(word_at(values.field_ends, position))
    end = packed >> FLAG_BITS
    if values.field == 0:
        begin = np.int64(word_at(values.record_starts, record))
    else:
        begin = (np.int64(word_at(values.field_ends, position - 1)) >> FLAG_BITS) + values.delimiter_bytes
    state = VALUE if begin < end else ABSENT
    if packed & (QUOTED | ESCAPED):
        if packed & QUOTED:
            begin += 1
            end -= 1
        if begin == end:
            state = EMPTY_TEXT
        elif packed & ESCAPED:
            state = ESCAPED_VALUE
    if values.absent != 0 and byte_at(values.absent, record) != 0:
        state = ABSENT
    return state, begin, end


@njit(nogil=True, cache=True)
def has_value(packed_values: Packed) -> bool:
    """Some record holds a value that is neither NULL nor the empty text."""
    values = Values(*packed_values)
    for record in range(values.n_records):
        state, _, _ = locate(values, record)
        if state >= VALUE:
            return True
    return False


@njit(nogil=True, cache=True)
def _find_marker(packed_values: Packed, marker: npt.NDArray[np.uint8]) -> None:
    values = Values(*packed_values)
    for record in range(values.n_records):
        state, at, end = locate(values, record)
        # After a backslash the marker is compared as written, so that \N can be one while \\N is the text \N.
        undo = state == ESCAPED_VALUE and values.escape != _BACKSLASH
        matched = 0
        while at < end and matched < len(marker):
            if undo and byte_at(values.text, at) == values.escape and at + 1 < end:
                at += 1
            if byte_at(values.text, at) != marker[matched]:
                break
            at += 1
            matched += 1
        if at == end and matched == len(marker):
            store_byte(values.absent, record, 1)


@njit(nogil=True, cache=True, forceinline=True)
def leave_null(slots: Slots, record: int, misfit: int) -> None:
    """Makes a slot NULL; misfit is a MISFIT_ code, or 0 for a value that is NULL."""
    byte = byte_at(slots.validity, record >> 3)
    store_byte(slots.validity, record >> 3, byte & ~np.uint8(1 << (record & 7)))
    if misfit:
        store_byte(slots.misfits, record, misfit)


@njit(nogil=True, cache=True)
def leave_misfits(packed_slots: Packed, records: npt.NDArray[np.int64]) -> None:
    """Makes the slots of these records NULL and their values misfits."""
    slots = Slots(*packed_slots)
    for record in records:
        leave_null(slots, record, MISFIT_VALUE)


@njit(nogil=True, cache=True, forceinline=True)
def refuse(slots: Slots, record: int, state: int) -> int:
    """Makes the slot of a column other than text NULL; 1 where a value stands there, which so is a misfit, else 0."""
    misfit = state >= VALUE
    leave_null(slots, record, MISFIT_VALUE if misfit else 0)
    return int(misfit)
