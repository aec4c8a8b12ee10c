"""What stands before the compiled loops over flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.buffers import scratch
from shardflow.codec.kernels.flags import FLAGS_AT_ONCE, FlagKernels, check_edge, check_others
from shardflow.codec.kernels.fused import COMMON_WIDTHS
from shardflow.loops import LoopSet, Signature, number, read, written

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.flags import Flags, Places
    from shardflow.codec.numbers import Number

_WRITTEN_AT_ONCE = 8  # places; behind the last one, up to so many are overwritten


class FusedFlagKernels(FlagKernels):
    """Each loop is loaded, or compiled, when it is first needed."""

    @classmethod
    def ready(cls) -> FusedFlagKernels:
        """With the loops that models need, so that nobody waits for them later."""
        wanted = (("unequal", COMMON_WIDTHS), ("below", COMMON_WIDTHS), ("marked", (4,)), ("places", (8,)))
        _LOOPS.make_ready((name, width) for name, widths in wanted for width in widths)
        return cls()

    def unequal(self, words: Words, others: Words, out: Flags) -> None:
        check_others(words, others, out)
        _LOOPS.loop("unequal", words.itemsize)(words, others, out)

    def below(self, words: Words, number: Number, edge: int, out: Flags) -> None:
        check_edge(words, number, edge, out)
        _LOOPS.loop("below", number.width)(words, number.mantissa, number.exponents, edge, out)

    def marked(self, gaps: Words, out: Flags) -> int:
        out.fill(0)
        return _LOOPS.loop("marked", gaps.itemsize)(gaps, out)

    def places(self, flags: Flags) -> Places:
        room = scratch("places", 8 * (FLAGS_AT_ONCE * flags.size + _WRITTEN_AT_ONCE)).view(np.int64)
        return room[: _LOOPS.loop("places", 8)(flags, room)]


def _comparing(word: str) -> Signature:
    return (read(word), read(word), written("u8"))


def _ranking(word: str) -> Signature:
    return (read(word), *[number(word)] * 3, written("u8"))


def _marking(word: str) -> Signature:
    return (read(word), written("u8"))


def _finding(word: str) -> Signature:
    return (read(word), written("i8"))


_LOOPS = LoopSet(
    "shardflow.codec.kernels.flag_loops",
    {"unequal": _comparing, "below": _ranking, "marked": _marking, "places": _finding},
)
