"""The kernels as loops compiled by numba: one pass for each plane to split, one pass over all planes to join."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from numpy import uint16, uint32, uint64

from shardflow.codec.buffers import scratch
from shardflow.codec.kernels.compiling import WORDS, compiled, read, types, written
from shardflow.codec.kernels.contract import Kernels, Splitter, check_plane, check_planes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.words import Form


COMMON_WIDTHS = (2, 4)


class FusedKernels(Kernels):
    """Each loop is compiled, or read from numba's cache, when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._splitting: dict[int, Callable[..., None]] = {}
        self._joining: dict[int, Callable[..., None]] = {}

    @classmethod
    def ready(cls) -> FusedKernels:
        """With the loops that models need, so that nobody waits for them later."""
        made = cls()
        for width in COMMON_WIDTHS:
            made._splitting[width], made._joining[width] = _compile_take(width), _compile_put(width)
        return made

    def splitter(self, words: Words, form: Form) -> Splitter:
        with self._lock:
            loop = self._splitting.get(form.width) or self._splitting.setdefault(form.width, _compile_take(form.width))

        def split(plane: int, out: Bytes) -> None:
            check_plane(plane, out, words, form)
            loop(words, form.low, form.step, form.mask, form.top, form.sign_when_folded, 8 * plane, out)

        return split

    def join(self, planes: Sequence[Bytes], form: Form, out: Words) -> None:
        check_planes(planes, form, out)
        with self._lock:
            loop = self._joining.get(form.width) or self._joining.setdefault(form.width, _compile_put(form.width))
        zeros = scratch("zeros", out.size if form.dropped else 0)
        zeros.fill(0)
        loop((*planes, *[zeros] * form.dropped), form.low, form.step, form.sign_when_unfolded, out)


def _compile_take(width: int) -> Callable[..., None]:
    word = WORDS[width]
    return compiled(_take, types.void(read(word), *[word] * 6, written(types.uint8)))


def _compile_put(width: int) -> Callable[..., None]:
    word = WORDS[width]
    planes = types.UniTuple(read(types.uint8), width)
    return compiled(_PUTS[width], types.void(planes, word, word, word, written(word)))


# What follows is compiled: plain loops over arrays whose sizes the caller has checked. Every number has the type of the
# words, and a multiplication by the sign, 0 or 1, stands for a branch.


def _take(words: Any, low: Any, step: Any, mask: Any, top: Any, flips: Any, shift: Any, out: Any) -> None:
    for i in range(out.size):
        kept = words[i] >> low
        folded = ((kept << step) & mask) ^ (((kept >> top) & step) * flips)
        out[i] = (folded >> shift) & 255


def _put2(planes: Any, low: Any, step: Any, flips: Any, out: Any) -> None:
    p0, p1 = planes
    for i in range(out.size):
        folded = uint16(p0[i]) | uint16(p1[i]) << 8
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low


def _put4(planes: Any, low: Any, step: Any, flips: Any, out: Any) -> None:
    p0, p1, p2, p3 = planes
    for i in range(out.size):
        folded = uint32(p0[i]) | uint32(p1[i]) << 8 | uint32(p2[i]) << 16 | uint32(p3[i]) << 24
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low


def _put8(planes: Any, low: Any, step: Any, flips: Any, out: Any) -> None:
    p0, p1, p2, p3, p4, p5, p6, p7 = planes
    for i in range(out.size):
        lower = uint32(p0[i]) | uint32(p1[i]) << 8 | uint32(p2[i]) << 16 | uint32(p3[i]) << 24
        upper = uint32(p4[i]) | uint32(p5[i]) << 8 | uint32(p6[i]) << 16 | uint32(p7[i]) << 24
        folded = uint64(lower) | uint64(upper) << uint64(32)
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low


_PUTS: dict[int, Callable[..., None]] = {2: _put2, 4: _put4, 8: _put8}
