"""Blocks of 64 bytes as bit masks: bit i of a mask says that byte i of the block is one of the wanted bytes.

The masks are written as LLVM vector instructions, which every target lowers to what it has (AVX-512, AVX2, SSE2, NEON), so
numba kernels look at the bytes that matter only, and nothing of it is left as a call: a call would cost more than the
work. Source: Langdale, Lemire, "Parsing Gigabytes of JSON per Second", VLDB Journal 2019. numba caches a kernel by the
source file that it stands in: after a change here, clear the caches of the modules that use it.
"""

from __future__ import annotations

from typing import Any

import numba.extending
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils as numba_cgutils
from numba.core.errors import TypingError

BLOCK_BYTES = 64
UNROLLED = 16

_VECTOR = ir.VectorType(ir.IntType(8), BLOCK_BYTES)
_MASK = ir.IntType(BLOCK_BYTES)

# Typed by hand: numba's hints count the typing context among an intrinsic's arguments, or are missing.
_intrinsic: Any = numba.extending.intrinsic
cgutils: Any = numba_cgutils


@_intrinsic
def block_mask(typing_context: Any, data: Any, offset: Any, wanted: Any) -> Any:
    """Mask of the bytes of data[offset:offset + 64] that are in `wanted`, a tuple of uint8; bits past the end are 0.

    data is a contiguous array of uint8; offset lies in it.
    """
    if data.layout != "C" or data.dtype != types.uint8:
        raise TypingError("bytes must be a contiguous array of uint8")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        block, present = _load_block(builder, array, arguments[1])
        matches = ir.Constant(ir.VectorType(ir.IntType(1), BLOCK_BYTES), None)
        for position in range(len(signature.args[2])):
            wanted_everywhere = _splat(builder, builder.extract_value(arguments[2], position))
            matches = builder.or_(matches, builder.icmp_unsigned("==", block, wanted_everywhere))
        return builder.and_(builder.bitcast(matches, _MASK), present)

    return types.uint64(data, types.int64, wanted), generate


def _load_block(builder: Any, array: Any, offset: Any) -> tuple[Any, Any]:
    """The 64 bytes at an offset, and a mask of those that lie before the end; those behind it are not read."""
    address = builder.gep(array.data, [offset])
    padded = cgutils.alloca_once(builder, _VECTOR)
    is_whole = builder.icmp_signed("<=", builder.add(offset, _MASK(BLOCK_BYTES)), array.nitems)
    with builder.if_else(is_whole, likely=True) as (whole, partial):
        with whole:
            loaded = builder.load(builder.bitcast(address, _VECTOR.as_pointer()), typ=_VECTOR)
            loaded.align = 1
            whole_exit = builder.block
        with partial:
            n_present = builder.sub(array.nitems, offset)
            builder.store(ir.Constant(_VECTOR, None), padded)
            cgutils.raw_memcpy(builder, builder.bitcast(padded, address.type), address, n_present, 1)
            copied = builder.load(padded, typ=_VECTOR)
            present_bits = builder.sub(builder.shl(_MASK(1), n_present), _MASK(1))
            partial_exit = builder.block
    block = builder.phi(_VECTOR)
    block.add_incoming(loaded, whole_exit)
    block.add_incoming(copied, partial_exit)
    present = builder.phi(_MASK)
    present.add_incoming(_MASK(-1), whole_exit)
    present.add_incoming(present_bits, partial_exit)
    return block, present


def _splat(builder: Any, byte: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first_lanes = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK_BYTES), None)
    return builder.shuffle_vector(builder.insert_element(undefined, byte, ir.IntType(32)(0)), undefined, first_lanes)


@_intrinsic
def trailing_zeros(typing_context: Any, mask: Any) -> Any:
    """Position of the lowest set bit of a mask; 64 where none is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int64(types.uint64), generate


@_intrinsic
def count_ones(typing_context: Any, mask: Any) -> Any:
    """Number of set bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(nogil=True, cache=True)
def positions_of(data, begin, end, wanted, positions):  # type: ignore[no-untyped-def]
    """Writes the offsets in data[begin:end] of the bytes in `wanted`, ascending, and returns their number.

    begin and end are a whole number of blocks apart, or end is the end of data. `positions`, uint32, needs room for
    end - begin + UNROLLED entries: several are written without asking, because a mispredicted branch costs more.
    """
    found = 0
    for base in range(begin, end, BLOCK_BYTES):
        mask = block_mask(data, base, wanted)
        in_block = count_ones(mask)
        written = 0
        while written < in_block:
            for i in range(UNROLLED):
                positions[found + written + i] = base + trailing_zeros(mask)
                mask &= mask - types.uint64(1)
            written += UNROLLED
        found += in_block
    return found
