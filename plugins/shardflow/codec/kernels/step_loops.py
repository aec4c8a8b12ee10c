"""The loops behind deltas, compiled by numba: each a single pass over its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shardflow.codec.kernels.compiling import CompiledLoops, read, types, written
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number


class FusedStepKernels(StepKernels):
    """Each loop is compiled, or read from numba's cache, when it is first needed."""

    def __init__(self) -> None:
        self._loop = CompiledLoops(_LOOPS).loop

    @classmethod
    def ready(cls) -> FusedStepKernels:
        """With the loops that models need, so that nobody waits for them later."""
        made = cls()
        for width in COMMON_WIDTHS:
            for name in _LOOPS:
                made._loop(name, width)
        return made

    def steps(self, words: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(words, starts, number, out)
        self._loop("steps", number.width)(words, starts, number.low, number.top, number.flips, number.mask, 1, out)

    def walked(self, steps: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(steps, starts, number, out)
        self._loop("walked", number.width)(steps, starts, number.low, number.top, number.flips, number.mask, 1, out)

    def grouped(self, words: Words, number: Number, table: Bytes, classes: int) -> Grouping:
        check_table(words, number, table, classes)
        lanes = np.zeros((4, classes), np.int64)
        self._loop("counts", number.width)(words, number.mantissa, number.exponents, table, lanes)
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
        self._loop(name, number.width)(values, words, number.mantissa, number.exponents, table, places, out)

    def clip(self, values: Words, most: int, out: Bytes, rest: Words) -> int:
        check_clipping(out, most, rest, values, values.size)
        return self._loop("clip", values.itemsize)(values, most, out, rest)

    def unclip(self, clipped: Bytes, most: int, rest: Words, out: Words) -> None:
        check_rest(clipped, most, rest, out)
        self._loop("unclip", out.itemsize)(clipped, most, rest, out)


# What follows is compiled: plain loops over arrays whose sizes the caller has checked. Every number has the type of the
# words, and a multiplication by the sign, 0 or 1, stands for a branch.


def _steps(words: Any, starts: Any, low: Any, top: Any, flips: Any, mask: Any, one: Any, out: Any) -> None:
    for i in range(out.size):
        word, start = words[i] >> low, starts[i] >> low
        way = ((word ^ ((word >> top) * flips)) - (start ^ ((start >> top) * flips))) & mask
        out[i] = ((way << one) & mask) ^ ((way >> top) * mask)


def _walked(steps: Any, starts: Any, low: Any, top: Any, flips: Any, mask: Any, one: Any, out: Any) -> None:
    for i in range(out.size):
        step, start = steps[i], starts[i] >> low
        way = (step >> one) ^ ((step & one) * mask)
        word = ((start ^ ((start >> top) * flips)) + way) & mask
        out[i] = (word ^ ((word >> top) * flips)) << low


# The loops over classes go through both halves at once, each with counters of its own: a processor works on one while
# the other waits for the counter of a class that has just come.


def _counts(words: Any, mantissa: Any, exponents: Any, table: Any, lanes: Any) -> None:
    half = words.size // 2
    for i in range(0, half - 1, 2):
        for lane in range(2):
            lanes[lane, table[(words[i + lane] >> mantissa) & exponents]] += 1
            lanes[2 + lane, table[(words[half + i + lane] >> mantissa) & exponents]] += 1
    if half % 2:
        lanes[0, table[(words[half - 1] >> mantissa) & exponents]] += 1
    for i in range(half + half // 2 * 2, words.size):
        lanes[2, table[(words[i] >> mantissa) & exponents]] += 1


def _by_class(values: Any, words: Any, mantissa: Any, exponents: Any, table: Any, places: Any, out: Any) -> None:
    half = values.size // 2
    classes = types.uint64(places.size // 2)
    for i in range(half):
        group = types.uint64(table[(words[i] >> mantissa) & exponents])
        place = places[group]
        out[place] = values[i]
        places[group] = place + types.uint64(1)
        group = types.uint64(table[(words[half + i] >> mantissa) & exponents]) + classes
        place = places[group]
        out[place] = values[half + i]
        places[group] = place + types.uint64(1)
    for i in range(2 * half, values.size):
        group = types.uint64(table[(words[i] >> mantissa) & exponents]) + classes
        out[places[group]] = values[i]


def _in_place(values: Any, words: Any, mantissa: Any, exponents: Any, table: Any, places: Any, out: Any) -> None:
    half = out.size // 2
    classes = types.uint64(places.size // 2)
    for i in range(half):
        group = types.uint64(table[(words[i] >> mantissa) & exponents])
        place = places[group]
        out[i] = values[place]
        places[group] = place + types.uint64(1)
        group = types.uint64(table[(words[half + i] >> mantissa) & exponents]) + classes
        place = places[group]
        out[half + i] = values[place]
        places[group] = place + types.uint64(1)
    for i in range(2 * half, out.size):
        group = types.uint64(table[(words[i] >> mantissa) & exponents]) + classes
        out[i] = values[places[group]]


def _clip(values: Any, most: Any, out: Any, rest: Any) -> int:
    beyond = 0
    for i in range(values.size):
        value = values[i]
        rest[beyond] = value - most
        beyond += value >= most
        out[i] = min(value, most)
    return beyond


def _unclip(clipped: Any, most: Any, rest: Any, out: Any) -> None:
    # Without a branch, which no processor could foresee: what is not beyond adds the zero that the rest begins with.
    beyond = 0
    for i in range(out.size):
        is_beyond = types.int64(clipped[i] == most)
        beyond += is_beyond
        out[i] = clipped[i] + rest[beyond * is_beyond]


def _walking(word: Any) -> Any:
    return types.void(read(word), read(word), *[word] * 5, written(word))


def _counting(word: Any) -> Any:
    return types.void(read(word), word, word, read(types.uint8), types.Array(types.int64, 2, "C"))


def _moving(word: Any) -> Any:
    places = types.Array(types.uint64, 1, "C")  # without a sign there is nothing to check before each use
    return types.void(read(word), read(word), word, word, read(types.uint8), places, written(word))


def _clipping(word: Any) -> Any:
    return types.int64(read(word), word, written(types.uint8), written(word))


def _unclipping(word: Any) -> Any:
    return types.void(read(types.uint8), types.uint8, read(word), written(word))


_LOOPS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "steps": (_steps, _walking),
    "walked": (_walked, _walking),
    "counts": (_counts, _counting),
    "by_class": (_by_class, _moving),
    "in_place": (_in_place, _moving),
    "clip": (_clip, _clipping),
    "unclip": (_unclip, _unclipping),
}
