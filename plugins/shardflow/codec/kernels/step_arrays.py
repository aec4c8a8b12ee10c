"""The loops behind deltas in plain numpy: the reference, and what serves where numba has no wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec.buffers import scratch
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
    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number


class ArrayStepKernels(StepKernels):
    """Whole-array operations on this thread's work space."""

    def steps(self, words: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(words, starts, number, out)
        way, start = _space("way", words.size, number), _space("start", words.size, number)
        np.right_shift(words, number.low, out=way)
        np.right_shift(starts, number.low, out=start)
        _put_in_order(way, number)
        _put_in_order(start, number)
        np.subtract(way, start, out=way)
        np.bitwise_and(way, number.mask, out=way)
        np.right_shift(way, number.top, out=start)
        np.multiply(start, number.mask, out=start)
        np.left_shift(way, 1, out=way)
        np.bitwise_and(way, number.mask, out=way)
        np.bitwise_xor(way, start, out=out)

    def walked(self, steps: Words, starts: Words, number: Number, out: Words) -> None:
        check_alike(steps, starts, number, out)
        way, start = _space("way", steps.size, number), _space("start", steps.size, number)
        np.bitwise_and(steps, 1, out=start)
        np.multiply(start, number.mask, out=start)
        np.right_shift(steps, 1, out=way)
        np.bitwise_xor(way, start, out=way)
        np.right_shift(starts, number.low, out=start)
        _put_in_order(start, number)
        np.add(way, start, out=way)
        np.bitwise_and(way, number.mask, out=way)
        _put_in_order(way, number)
        np.left_shift(way, number.low, out=out)

    def grouped(self, words: Words, number: Number, table: Bytes, classes: int) -> Grouping:
        check_table(words, number, table, classes)
        uncounted = Grouping(words, number, table, np.zeros((2, 0), np.int64))
        each, half = _classes(uncounted), words.size // 2
        halves = [np.bincount(part, minlength=classes) for part in (each[:half], each[half:])]
        return uncounted._replace(halves=np.array(halves))

    def by_class(self, values: Words, grouping: Grouping, out: Words) -> None:
        check_values(values, grouping, out)
        # A stable sort keeps each class in its order; for small integers it is a radix sort.
        np.take(values, np.argsort(_classes(grouping), kind="stable"), out=out)

    def in_place(self, values: Words, grouping: Grouping, out: Words) -> None:
        check_values(values, grouping, out)
        out[np.argsort(_classes(grouping), kind="stable")] = values

    def clip(self, values: Words, most: int, out: Bytes, rest: Words) -> int:
        check_clipping(out, most, rest, values, values.size)
        np.minimum(values, most, out=out, casting="unsafe")
        beyond = values[out == most]
        np.subtract(beyond, most, out=rest[: beyond.size])
        return len(beyond)

    def unclip(self, clipped: Bytes, most: int, rest: Words, out: Words) -> None:
        check_rest(clipped, most, rest, out)
        np.copyto(out, clipped)
        beyond = clipped == most
        out[beyond] += rest[1 : 1 + int(np.count_nonzero(beyond))]


def _space(slot: str, count: int, number: Number) -> Words:
    space: Words = scratch(slot, count * number.width).view(number.dtype)
    return space


def _put_in_order(words: Words, number: Number) -> None:
    """Words in the order of their bits become words in the order of their values, and the other way round."""
    flips = _space("flips", words.size, number)
    np.right_shift(words, number.top, out=flips)
    np.multiply(flips, number.flips, out=flips)
    np.bitwise_xor(words, flips, out=words)


def _classes(grouping: Grouping) -> Bytes:
    words, number, table, _ = grouping
    exponents = np.right_shift(words, number.mantissa)
    np.bitwise_and(exponents, number.exponents, out=exponents)
    classes: Bytes = table[exponents]
    return classes
