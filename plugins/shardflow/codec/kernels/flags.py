"""What the loops over flags do, one bit for each word: which words changed, which may have, and where those are.

Flags lie in numbers of 64 bits, the first in the lowest bit of the first number; bits behind the last word are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number

FLAGS_AT_ONCE = 64

Flags: TypeAlias = npt.NDArray[np.uint64]
Places: TypeAlias = npt.NDArray[np.int64]


class FlagKernels(Protocol):
    """The words passed in may be unaligned and are little-endian. Only `out` is written."""

    def unequal(self, words: Words, others: Words, out: Flags) -> None:
        """Which words are not what the others are."""

    def below(self, words: Words, number: Number, edge: int, out: Flags) -> None:
        """Which words have an exponent that is less than `edge`."""

    def marked(self, gaps: Words, out: Flags) -> int:
        """Set those flags alone that lie behind such gaps; says which is the last, or what is beyond all flags."""

    def places(self, flags: Flags) -> Places:
        """The numbers of the flags that are set, ascending, counted from 0; in this thread's work space."""


def flags_for(count: int) -> int:
    """How many numbers hold so many flags."""
    return -(-count // FLAGS_AT_ONCE)


def check_flags(words: Words, out: Flags) -> None:
    if out.size != flags_for(words.size) or out.itemsize != FLAGS_AT_ONCE // 8:
        raise ValueError(f"{out.size} times {FLAGS_AT_ONCE} flags do not fit {words.size} words")


def check_others(words: Words, others: Words, out: Flags) -> None:
    check_flags(words, out)
    if words.size != others.size or words.itemsize != others.itemsize:
        raise ValueError(f"{others.size} words of {others.itemsize} bytes are not as many as {words.size}")


def check_edge(words: Words, number: Number, edge: int, out: Flags) -> None:
    check_flags(words, out)
    if words.itemsize != number.width or not 0 <= edge <= number.exponents + 1:
        raise ValueError(f"exponent {edge} does not fit words of {words.itemsize} bytes that are {number}")
