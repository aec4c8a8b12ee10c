"""The kernels as compiled loops: one pass for each plane to split, one pass over all planes to join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardflow.codec.buffers import scratch
from shardflow.codec.kernels.contract import Kernels, Splitter, check_plane, check_planes
from shardflow.loops import LoopSet, Signature, number, read, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.words import Form


COMMON_WIDTHS = (2, 4)


class FusedKernels(Kernels):
    """Each loop is loaded, or compiled, when it is first needed."""

    @classmethod
    def ready(cls) -> FusedKernels:
        """With the loops that models need, so that nobody waits for them later."""
        _LOOPS.make_ready((name, width) for width in COMMON_WIDTHS for name in ("take", f"put{width}"))
        return cls()

    def splitter(self, words: Words, form: Form) -> Splitter:
        loop = _LOOPS.loop("take", form.width)

        def split(plane: int, out: Bytes) -> None:
            check_plane(plane, out, words, form)
            loop(words, form.low, form.step, form.mask, form.top, form.sign_when_folded, 8 * plane, out)

        return split

    def join(self, planes: Sequence[Bytes], form: Form, out: Words) -> None:
        check_planes(planes, form, out)
        loop = _LOOPS.loop(f"put{form.width}", form.width)
        zeros = scratch("zeros", out.size if form.dropped else 0)
        zeros.fill(0)
        loop(form.low, form.step, form.sign_when_unfolded, out, *planes, *[zeros] * form.dropped)


def _taking(word: str) -> Signature:
    return (read(word), *[number(word)] * 6, written("u1"))


def _putting(word: str) -> Signature:
    planes = int(word.removeprefix("u"))
    return (*[number(word)] * 3, written(word), *[read("u1")] * planes)


_LOOPS = LoopSet(
    "shardflow.codec.kernels.plane_loops", {"take": _taking, "put2": _putting, "put4": _putting, "put8": _putting}
)
