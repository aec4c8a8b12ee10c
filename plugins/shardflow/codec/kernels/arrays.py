"""The kernels in plain numpy: the reference, and what serves where numba has no wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.buffers import scratch
from shardflow.codec.kernels.contract import Kernels, Splitter, check_plane, check_planes
from shardflow.codec.words import Fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.words import Form


class ArrayKernels(Kernels):
    """Whole-array operations on this thread's work space."""

    def splitter(self, words: Words, form: Form) -> Splitter:
        folded = _fold(words, form)

        def split(plane: int, out: Bytes) -> None:
            check_plane(plane, out, words, form)
            np.right_shift(folded, 8 * plane, out=out, casting="unsafe")

        return split

    def join(self, planes: Sequence[Bytes], form: Form, out: Words) -> None:
        check_planes(planes, form, out)
        folded = _space("joined", out.size, form)
        np.copyto(folded, planes[-1])
        for plane in reversed(planes[:-1]):
            np.left_shift(folded, 8, out=folded)
            np.bitwise_or(folded, plane, out=folded)
        _unfold(folded, form, out)


def _space(slot: str, count: int, form: Form) -> Words:
    space: Words = scratch(slot, count * form.width).view(form.dtype)
    return space


def _fold(words: Words, form: Form) -> Words:
    folded = _space("folded", words.size, form)
    np.right_shift(words, form.low, out=folded)
    if form.fold is Fold.NONE:
        return folded
    flips = _space("flips", words.size, form)
    np.right_shift(folded, form.top, out=flips)
    np.multiply(flips, form.sign_when_folded, out=flips)
    np.left_shift(folded, 1, out=folded)
    np.bitwise_and(folded, form.mask, out=folded)
    np.bitwise_xor(folded, flips, out=folded)
    return folded


def _unfold(folded: Words, form: Form, out: Words) -> None:
    if form.fold is not Fold.NONE:
        flips = _space("flips", out.size, form)
        np.bitwise_and(folded, 1, out=flips)
        np.multiply(flips, form.sign_when_unfolded, out=flips)
        np.right_shift(folded, 1, out=folded)
        np.bitwise_xor(folded, flips, out=folded)
    np.left_shift(folded, form.low, out=out)
