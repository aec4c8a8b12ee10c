"""Multiplication that comes before a cast: by one number, by one for every so many words, or by one again and again."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.rounding import Bits, Singles, is_ordinary, multiplied
from shardflow.codec.runs import RunWriter
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from shardflow.codec.runs import RunReader

MOST_TIMES = 255

_HEADER = struct.Struct("<BII")  # times, words a multiplier, words of the first that lie before the chunk
_NONE = b"\x00"


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """One multiplier, or one for every `run` words, the first `before` of which lie before the chunk."""

    multipliers: Singles
    run: int = 0
    before: int = 0
    times: int = 1

    def applied(self, bits: Bits, first: int) -> Bits:
        """Float32 values from the one with number `first` in the chunk on, multiplied."""
        return multiplied(bits, self._of(first, bits.size), self.times)

    def _of(self, first: int, count: int) -> Singles:
        if not self.run:
            return self.multipliers
        first += self.before
        whole = first // self.run
        each: Singles = np.repeat(self.multipliers[whole : (first + count - 1) // self.run + 1], self.run)
        return each[first - whole * self.run :][:count]


def check_scale(scale: Scale, count: int) -> str:
    """What is wrong with a scale for a chunk of `count` words, if anything."""
    if not 0 < scale.times <= MOST_TIMES or scale.multipliers.size != _needed(scale.run, scale.before, count):
        return f"{scale.multipliers.size} multipliers, {scale.times} times, do not fit {count} words"
    if not is_ordinary(scale.multipliers.view("<u4")).all():
        return "a multiplier is zero, or no number, or too near to either"
    return ""


def _needed(run: int, before: int, count: int) -> int:
    """How many multipliers there are; none where the numbers make no sense."""
    if not run:
        return 1 if not before else 0
    return (before + max(count, 1) - 1) // run + 1 if before < run else 0


def scale_header(scale: Scale | None) -> bytes:
    if not scale:
        return _NONE
    multipliers = scale.multipliers.astype("<f4").view(np.uint8)
    writer = RunWriter(memoryview(bytearray(multipliers.size + 64)))
    writer.run(0, multipliers)
    return _HEADER.pack(scale.times, scale.run, scale.before) + bytes(writer.written)


def read_scale(reader: RunReader, count: int) -> Scale | None:
    (times,) = reader.take(1)
    if not times:
        return None
    run, before = struct.unpack("<II", reader.take(8))
    needed = _needed(run, before, count)
    if not needed:
        raise CorruptData(f"multipliers for {run} words each, {before} of them before the chunk, cannot be")
    _, multipliers = reader.run([4 * needed], "multipliers")
    scale = Scale(multipliers.view("<f4").copy(), run, before, times)
    wrong = check_scale(scale, count)
    if wrong:
        raise CorruptData(wrong)
    return scale
