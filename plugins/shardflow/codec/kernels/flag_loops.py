"""The loops over flags, compiled by numba: 64 words at a time, which processors compare a few dozen at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shardflow.codec.buffers import scratch
from shardflow.codec.kernels.compiling import CompiledLoops, counted_ones, read, trailing_zeros, types, written
from shardflow.codec.kernels.flags import FLAGS_AT_ONCE, FlagKernels, check_edge, check_others
from shardflow.codec.kernels.fused import COMMON_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.flags import Flags, Places
    from shardflow.codec.numbers import Number

_WRITTEN_AT_ONCE = 8  # places; behind the last one, up to so many are overwritten


class FusedFlagKernels(FlagKernels):
    """Each loop is compiled, or read from numba's cache, when it is first needed."""

    def __init__(self) -> None:
        self._loop = CompiledLoops(_LOOPS).loop

    @classmethod
    def ready(cls) -> FusedFlagKernels:
        """With the loops that models need, so that nobody waits for them later."""
        made = cls()
        for name, widths in (("unequal", COMMON_WIDTHS), ("below", COMMON_WIDTHS), ("marked", (4,)), ("places", (8,))):
            for width in widths:
                made._loop(name, width)
        return made

    def unequal(self, words: Words, others: Words, out: Flags) -> None:
        check_others(words, others, out)
        self._loop("unequal", words.itemsize)(words, others, out)

    def below(self, words: Words, number: Number, edge: int, out: Flags) -> None:
        check_edge(words, number, edge, out)
        self._loop("below", number.width)(words, number.mantissa, number.exponents, edge, out)

    def marked(self, gaps: Words, out: Flags) -> int:
        out.fill(0)
        return self._loop("marked", gaps.itemsize)(gaps, out)

    def places(self, flags: Flags) -> Places:
        room = scratch("places", 8 * (FLAGS_AT_ONCE * flags.size + _WRITTEN_AT_ONCE)).view(np.int64)
        return room[: self._loop("places", 8)(flags, room)]


# What follows is compiled: plain loops over arrays whose sizes the caller has checked. The loops over 64 words are
# written out, without a call and without a branch, in the form that the compiler turns into a few instructions.


def _unequal(words: Any, others: Any, out: Any) -> None:
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


def _below(words: Any, mantissa: Any, exponents: Any, edge: Any, out: Any) -> None:
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


def _marked(gaps: Any, out: Any) -> int:
    place, end = -1, 64 * out.size
    for i in range(gaps.size):
        place += types.int64(gaps[i]) + 1
        if place >= end:
            break
        out[place >> 6] |= types.uint64(1) << types.uint64(place & 63)
    return place


def _places(flags: Any, out: Any) -> int:
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


def _comparing(word: Any) -> Any:
    return types.void(read(word), read(word), written(types.uint64))


def _ranking(word: Any) -> Any:
    return types.void(read(word), word, word, word, written(types.uint64))


def _marking(word: Any) -> Any:
    return types.int64(read(word), written(types.uint64))


def _finding(number: Any) -> Any:
    return types.int64(read(number), written(types.int64))


_LOOPS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "unequal": (_unequal, _comparing),
    "below": (_below, _ranking),
    "marked": (_marked, _marking),
    "places": (_places, _finding),
}
