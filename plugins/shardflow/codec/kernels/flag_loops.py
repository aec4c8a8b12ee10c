"""The loops over flags, for numba to compile: 64 words at a time, which processors compare a few dozen at once."""

from __future__ import annotations

from typing import Any

from shardflow.loops.compiling import counted_ones, trailing_zeros, types

# Plain loops over arrays whose sizes the caller has checked. The loops over 64 words are written out, without a
# call and without a branch, in the form that the compiler turns into a few instructions.


def unequal(words: Any, others: Any, out: Any) -> Any:
    whole = words.size // 64
    for i in range(whole):
        flags = types.uint64(0)
        for j in range(64):
            flags |= types.uint64(words[64 * i + j] != others[64 * i + j]) << types.uint64(j)
        out[i] = flags
    if whole < out.size:
        flags = types.uint64(0)
        for j in range(words.size - 64 * whole):
            flags |= types.uint64(words[64 * whole + j] != others[64 * whole + j]) << types.uint64(j)
        out[whole] = flags
    return out.size


def below(words: Any, mantissa: Any, exponents: Any, edge: Any, out: Any) -> Any:
    whole = words.size // 64
    for i in range(whole):
        flags = types.uint64(0)
        for j in range(64):
            flags |= types.uint64(((words[64 * i + j] >> mantissa) & exponents) < edge) << types.uint64(j)
        out[i] = flags
    if whole < out.size:
        flags = types.uint64(0)
        for j in range(words.size - 64 * whole):
            flags |= types.uint64(((words[64 * whole + j] >> mantissa) & exponents) < edge) << types.uint64(j)
        out[whole] = flags
    return out.size


def marked(gaps: Any, out: Any) -> Any:
    place, end = -1, 64 * out.size
    for i in range(gaps.size):
        place += types.int64(gaps[i]) + 1
        if place >= end:
            break
        out[place >> 6] |= types.uint64(1) << types.uint64(place & 63)
    return place


def places(flags: Any, out: Any) -> Any:
    # Eight at a time, wanted or not, since nobody could foresee how many there are in 64 words.
    found = 0
    for i in range(flags.size):
        left = flags[i]
        count = types.int64(counted_ones(left))
        for start in range(0, count, 8):
            for j in range(8):
                out[found + start + j] = 64 * i + types.int64(trailing_zeros(left))
                left &= left - types.uint64(1)
        found += count
    return found
