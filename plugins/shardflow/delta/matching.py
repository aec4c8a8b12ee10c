"""Which bytes of an older file correspond to a run of a newer one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from shardflow.codec.rounding import FLOATS
from shardflow.dtype import DType
from shardflow.layout import Layout, Segment

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Match:
    """A run of the newer file that begins in `new`, and the bytes of the older file that correspond to it."""

    index: int  # of `new` in its layout
    new: Segment
    old: Segment
    start: int  # in the newer file
    end: int
    old_start: int
    old_end: int

    @property
    def is_cast(self) -> bool:
        return self.new.dtype is not self.old.dtype

    @property
    def is_within_tensor(self) -> bool:
        """Whether the run lies in one tensor, and is not a chunk that several small ones share."""
        return self.end <= self.new.offset + self.new.length

    @property
    def first_word(self) -> int:
        """How many elements of the tensor lie before the run."""
        return (self.start - self.new.offset) // self.new.dtype.width

    @property
    def row_words(self) -> int:
        """The elements of a row, if the run is one of rows; 0 if not."""
        shape = self.new.shape
        if len(shape) < 2 or not shape[0] or not self.is_within_tensor:
            return 0
        return self.new.length // self.new.dtype.width // shape[0]


class Matches:
    """The tensors of two files that belong together, as `pairs` found them."""

    def __init__(self, new: Layout, old: Layout, pairs: Mapping[int, int]) -> None:
        self._new = new.segments
        self._old = old.segments
        self._pairs = pairs
        self._starts = [segment.offset for segment in new.segments]

    def __len__(self) -> int:
        return len(self._pairs)

    def indices(self) -> list[int]:
        """The paired tensors of the newer file, the largest first."""
        return sorted(self._pairs, key=lambda index: (-self._new[index].length, index))

    def kind(self, index: int) -> str:
        """The name of a tensor without the numbers in it, which tell layers and experts apart."""
        return _NUMBER.sub("#", self._new[index].name)

    def kinds(self) -> dict[str, list[int]]:
        """The paired tensors by kind."""
        kinds: dict[str, list[int]] = {}
        for index in sorted(self._pairs):
            kinds.setdefault(self.kind(index), []).append(index)
        return kinds

    def whole(self, index: int) -> Match:
        """What corresponds to a whole tensor."""
        new, old = self._new[index], self._old[self._pairs[index]]
        length = min(new.length // new.dtype.width, old.length // old.dtype.width) * old.dtype.width
        return Match(index, new, old, new.offset, new.offset + new.length, old.offset, old.offset + length)

    def find(self, start: int, end: int) -> Match | None:
        """What corresponds to a run: a part of one tensor, or several whole ones that lie as they lay before."""
        index = bisect_right(self._starts, start) - 1
        tensors = [n for n in self._within(index, end) if self._new[n].name]
        if not tensors or any(n not in self._pairs for n in tensors):
            return None
        first, last = (self.whole(n) for n in (tensors[0], tensors[-1]))
        if not _convertible(first.new.dtype, first.old.dtype):
            return None
        new_width, old_width = first.new.dtype.width, first.old.dtype.width
        if (start - first.new.offset) % new_width or not self._in_step(tensors, new_width, old_width):
            return None
        old_start = first.old.offset + (start - first.new.offset) // new_width * old_width
        old_end = min(old_start + (end - start) // new_width * old_width, last.old_end)
        return Match(tensors[0], first.new, first.old, start, end, old_start, old_end) if old_start < old_end else None

    def _within(self, index: int, end: int) -> list[int]:
        found = []
        while index < len(self._new) and self._new[index].offset < end:
            found.append(index)
            index += 1
        return found

    def _in_step(self, tensors: list[int], new_width: int, old_width: int) -> bool:
        """Whether the tensors are of one kind, and as many elements apart in both files."""
        wholes = [self.whole(n) for n in tensors]
        if any(
            each.new.dtype is not wholes[0].new.dtype or each.old.dtype is not wholes[0].old.dtype for each in wholes
        ):
            return False
        return all(
            (after.new.offset - before.new.offset) * old_width == (after.old.offset - before.old.offset) * new_width
            for before, after in pairwise(wholes)
        )


def _convertible(new: DType, old: DType) -> bool:
    return new is old or {new, old} <= FLOATS
