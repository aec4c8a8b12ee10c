"""What the loops behind deltas do, and the checks that stand before loops without bounds checks.

A *step* is the way from one word to another along the values of their kind, zigzag: 0, -1, 1, -2, ... become 0, 1, 2,
3, ... Steps are kept by *class*, which is looked up for the exponent of the word that a step starts from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number


class Grouping(NamedTuple):
    """Words and the class of each: `table` has one entry for every exponent there is, `halves` two for every class."""

    words: Words
    number: Number
    table: Bytes
    halves: npt.NDArray[np.int64]  # how many of each class are among the first half of the words, and the other

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The words of each class."""
        counts: npt.NDArray[np.int64] = self.halves.sum(axis=0)
        return counts


class StepKernels(Protocol):
    """The arrays passed in may be unaligned; the words are little-endian. Only `out` and `rest` are written."""

    def steps(self, words: Words, starts: Words, number: Number, out: Words) -> None:
        """The steps from `starts` to `words`."""

    def walked(self, steps: Words, starts: Words, number: Number, out: Words) -> None:
        """Where `steps` lead from `starts`."""

    def grouped(self, words: Words, number: Number, table: Bytes, classes: int) -> Grouping:
        """The words of each class, counted."""

    def by_class(self, values: Words, grouping: Grouping, out: Words) -> None:
        """The values of the first class in their order, then those of the second, and so on."""

    def in_place(self, values: Words, grouping: Grouping, out: Words) -> None:
        """Undoes `by_class`."""

    def clip(self, values: Words, most: int, out: Bytes, rest: Words) -> int:
        """`out` gets what is less than `most`, and `most` for the others, whose excess `rest` gets; says how many."""

    def unclip(self, clipped: Bytes, most: int, rest: Words, out: Words) -> None:
        """Undoes `clip`; `rest` holds one value for each `most`, and a zero before them."""


def check_alike(first: Words, second: Words, number: Number, out: Words) -> None:
    fitting = first.size == second.size == out.size
    if not fitting or {first.itemsize, second.itemsize, out.itemsize} != {number.width}:
        raise ValueError(f"{first.size}, {second.size} and {out.size} words do not fit, or are not {number}")


def check_table(words: Words, number: Number, table: Bytes, classes: int) -> None:
    if words.itemsize != number.width or table.size != number.exponents + 1 or int(table.max()) >= classes:
        raise ValueError(f"a table of {table.size} exponents in {classes} classes does not fit {number}")


def check_values(values: Words, grouping: Grouping, out: Words) -> None:
    if not values.size == out.size == grouping.words.size or values.itemsize != out.itemsize:
        raise ValueError(f"{values.size} values do not fit {grouping.words.size} words and room for {out.size}")


def check_clipping(clipped: Bytes, most: int, rest: Words, values: Words, room: int) -> None:
    fitting = clipped.size == values.size and rest.size >= room and rest.itemsize == values.itemsize
    if not fitting or not 0 < most < 256:
        raise ValueError(f"{clipped.size} clipped values of at most {most} do not fit {values.size} and {rest.size}")


def check_rest(clipped: Bytes, most: int, rest: Words, out: Words) -> None:
    check_clipping(clipped, most, rest, out, 1 + int(np.count_nonzero(clipped == most)))
    if rest[0]:
        raise ValueError(f"the rest begins with {rest[0]} where a zero belongs")
