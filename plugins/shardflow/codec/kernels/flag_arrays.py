"""The loops over flags in plain numpy: the reference, and what serves where numba has no wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.kernels.flags import FLAGS_AT_ONCE, FlagKernels, check_edge, check_others

if TYPE_CHECKING:
    import numpy.typing as npt

    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.flags import Flags, Places
    from shardflow.codec.numbers import Number


class ArrayFlagKernels(FlagKernels):
    """Whole-array operations."""

    def unequal(self, words: Words, others: Words, out: Flags) -> None:
        check_others(words, others, out)
        _pack(words != others, out)

    def below(self, words: Words, number: Number, edge: int, out: Flags) -> None:
        check_edge(words, number, edge, out)
        exponents = np.right_shift(words, number.mantissa)
        np.bitwise_and(exponents, number.exponents, out=exponents)
        _pack(exponents < edge, out)

    def marked(self, gaps: Words, out: Flags) -> int:
        places = np.cumsum(gaps, dtype=np.int64) + np.arange(gaps.size)
        last = int(places[-1]) if gaps.size else -1
        out.fill(0)
        if last < FLAGS_AT_ONCE * out.size:
            each = np.zeros(FLAGS_AT_ONCE * out.size, np.bool_)
            each[places] = True
            _pack(each, out)
        return last

    def places(self, flags: Flags) -> Places:
        return np.flatnonzero(np.unpackbits(flags.view(np.uint8), bitorder="little")).astype(np.int64, copy=False)


def _pack(each: npt.NDArray[np.bool_], out: Flags) -> None:
    out.fill(0)
    packed = np.packbits(each, bitorder="little")
    out.view(np.uint8)[: packed.size] = packed
