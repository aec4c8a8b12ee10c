"""What stands before the compiled loops behind deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.kernels.fused import COMMON_WIDTHS
from shardflow.codec.kernels.steps import (
    Grouping,
    StepKernels,
    check_alike,
    check_clipping,
    check_rest,
    check_table,
    check_values,
)
from shardflow.loops import LoopSet, Signature, number, read, written

if TYPE_CHECKING:
    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number


class FusedStepKernels(StepKernels):
    """Each loop is loaded, or compiled, when it is first needed."""

    @classmethod
    def ready(cls) -> FusedStepKernels:
        """With the loops that models need, so that nobody waits for them later."""
        _LOOPS.make_ready((name, width) for width in COMMON_WIDTHS for name in _SIGNATURES)
        return cls()

    def steps(self, words: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(words, starts, number, out)
        _LOOPS.loop("steps", number.width)(words, starts, number.low, number.top, number.flips, number.mask, 1, out)

    def walked(self, steps: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(steps, starts, number, out)
        _LOOPS.loop("walked", number.width)(steps, starts, number.low, number.top, number.flips, number.mask, 1, out)

    def grouped(self, words: Words, number: Number, table: Bytes, classes: int) -> Grouping:
        check_table(words, number, table, classes)
        lanes = np.zeros(4 * classes, np.int64)
        _LOOPS.loop("counts", number.width)(words, number.mantissa, number.exponents, table, lanes)
        return Grouping(words, number, table, lanes.reshape(2, 2, classes).sum(axis=1))

    def by_class(self, values: Words, grouping: Grouping, out: Words) -> None:
        check_values(values, grouping, out)
        self._move("by_class", values, grouping, out)

    def in_place(self, values: Words, grouping: Grouping, out: Words) -> None:
        check_values(values, grouping, out)
        self._move("in_place", values, grouping, out)

    def _move(self, name: str, values: Words, grouping: Grouping, out: Words) -> None:
        words, number, table, halves = grouping
        counts = grouping.counts
        firsts = np.cumsum(counts) - counts
        places = np.concatenate([firsts, firsts + halves[0]]).astype(np.uint64)
        _LOOPS.loop(name, number.width)(values, words, number.mantissa, number.exponents, table, places, out)

    def clip(self, values: Words, most: int, out: Bytes, rest: Words) -> int:
        check_clipping(out, most, rest, values, values.size)
        return _LOOPS.loop("clip", values.itemsize)(values, most, out, rest)

    def unclip(self, clipped: Bytes, most: int, rest: Words, out: Words) -> None:
        check_rest(clipped, most, rest, out)
        _LOOPS.loop("unclip", out.itemsize)(clipped, most, rest, out)


def _walking(word: str) -> Signature:
    return (read(word), read(word), *[number(word)] * 5, written(word))


def _counting(word: str) -> Signature:
    return (read(word), number(word), number(word), read("u1"), written("i8"))


def _moving(word: str) -> Signature:
    places = written("u8")  # without a sign there is nothing to check before each use
    return (read(word), read(word), number(word), number(word), read("u1"), places, written(word))


def _clipping(word: str) -> Signature:
    return (read(word), number(word), written("u1"), written(word))


def _unclipping(word: str) -> Signature:
    return (read("u1"), number("u1"), read(word), written(word))


_SIGNATURES = {
    "steps": _walking,
    "walked": _walking,
    "counts": _counting,
    "by_class": _moving,
    "in_place": _moving,
    "clip": _clipping,
    "unclip": _unclipping,
}
_LOOPS = LoopSet("shardflow.codec.kernels.step_loops", _SIGNATURES)
