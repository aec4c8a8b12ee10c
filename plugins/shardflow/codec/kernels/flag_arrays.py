"""The loops over flags in plain numpy: the reference, and what serves where numba has no wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.kernels.flags import FlagKernels, check_edge, check_others

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

    def places(self, flags: Flags) -> Places:
        return np.flatnonzero(np.unpackbits(flags.view(np.uint8), bitorder="little")).astype(np.int64, copy=False)


def _pack(each: npt.NDArray[np.bool_], out: Flags) -> None:
    out.fill(0)
    packed = np.packbits(each, bitorder="little")
    out.view(np.uint8)[: packed.size] = packed
