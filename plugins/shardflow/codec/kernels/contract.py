"""What a set of kernels does, and the checks that stand before loops without bounds checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.words import Form

Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


class Splitter(Protocol):
    """Words that wait to be split: calling it writes the plane with number `plane`, counted from the lowest byte.

    It may hold this thread's work space: a thread uses up one splitter before it asks for the next.
    """

    def __call__(self, plane: int, out: Bytes) -> None: ...


class Kernels(Protocol):
    """Both directions. The arrays passed in may be unaligned; the words are little-endian."""

    def splitter(self, words: Words, form: Form) -> Splitter: ...

    def join(self, planes: Sequence[Bytes], form: Form, out: Words) -> None: ...


def check_plane(plane: int, out: Bytes, words: Words, form: Form) -> None:
    if not 0 <= plane < form.planes or out.size != words.size or words.itemsize != form.width:
        raise ValueError(f"plane {plane} of {out.size} bytes does not fit {words.size} words in {form}")


def check_planes(planes: Sequence[Bytes], form: Form, out: Words) -> None:
    fitting = all(plane.size == out.size for plane in planes)
    if len(planes) != form.planes or not fitting or out.itemsize != form.width:
        raise ValueError(f"{len(planes)} planes do not fit {out.size} words in {form}")
