"""The values of one class, most of them small: stage by stage, each taking the part of them that it stores best.

A *digit* stage keeps every value up to its `most` in one, two, four or eight bits, and hands on what lies beyond:
bitmap-plus-values is a stage of one bit. A *low* stage keeps the lowest byte of every value and hands on the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shardflow.codec.buffers import scratch
from shardflow.codec.packing import pack, packed_size, unpack
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.steps import StepKernels
    from shardflow.codec.runs import RunReader, RunWriter
    from shardflow.codec.tails import Tail

_BITS = (1, 2, 4, 8)  # by tag
_LOW = len(_BITS)
_MOST_STAGES = 16

_DIGIT_STAGES = 6  # a writer's own limit
_SHARES = (0.30, 0.30, 0.10, 0.10)  # of values beyond a stage's most, above which the next wider stage is better


def plan(tail: Tail, width: int) -> list[int]:
    """The stages for values of `width` bytes that are spread like this, as far as they can be foreseen."""
    tags: list[int] = []
    first, scale, left = 0, 1, width  # what the next stage gets: (value - first) // scale, of as many bytes
    while left and len(tags) < _DIGIT_STAGES and tail.at_least(first):
        tag = _best(tail, first, scale)
        tags.append(tag)
        if tag == _LOW:
            scale, left = scale << 8, left - 1
        else:
            first += _most(tag) * scale
    return tags


def _best(tail: Tail, first: int, scale: int) -> int:
    have = tail.at_least(first)
    for tag, share in enumerate(_SHARES):
        if tail.at_least(first + _most(tag) * scale) <= share * have:
            return tag
    return _LOW


def write_values(values: Words, tags: Sequence[int], kernels: StepKernels, writer: RunWriter) -> None:
    """All of `values`, which are used up: their memory holds what the stages hand on."""
    left = values.itemsize
    coming = iter(tags)
    while values.size and left:
        tag = next(coming, _LOW)
        space = scratch("digits", values.size)
        if tag == _LOW:
            np.copyto(space, values, casting="unsafe")
            np.right_shift(values, 8, out=values)
            writer.run(tag, space)
            left -= 1
        else:
            beyond = kernels.clip(values, _most(tag), space, values)
            writer.run(tag, pack(space, _BITS[tag]))
            values = values[:beyond]


def _most(tag: int) -> int:
    return (1 << _BITS[tag]) - 1


class _Stage(NamedTuple):
    tag: int
    data: Bytes  # one for each value that the stage got


def read_values(reader: RunReader, kernels: StepKernels, out: Words) -> None:
    """Fill `out`, stage by stage from the last one, which alone holds whole values."""
    stages, handed_on = _read_stages(reader, out.size, out.itemsize)
    values = np.zeros(1 + handed_on, out.dtype)  # a zero goes before them, here and in all that follows
    for number in reversed(range(len(stages))):
        tag, data = stages[number]
        target = _led_by_zero(f"values{number % 2}", data.size, out.dtype) if number else out
        part = target[1:] if number else out
        if tag == _LOW:
            np.left_shift(values[1:], 8, out=part)
            np.bitwise_or(part, data, out=part)
        else:
            kernels.unclip(data, _most(tag), values, part)
        values = target


def _led_by_zero(slot: str, count: int, dtype: np.dtype[Any]) -> Words:
    space: Words = scratch(slot, (1 + count) * dtype.itemsize).view(dtype)
    space[0] = 0
    return space


def _read_stages(reader: RunReader, count: int, left: int) -> tuple[list[_Stage], int]:
    """The stages, and how many values the last one handed on: none, or such as have no byte left that is not zero."""
    stages: list[_Stage] = []
    while count and left:
        if len(stages) == _MOST_STAGES:
            raise CorruptData(f"values are cut into more than {_MOST_STAGES} stages")
        sizes = [packed_size(count, bits) for bits in _BITS] + [count]
        tag, data = reader.run(sizes, f"stage{len(stages)}")
        if tag == _LOW:
            left -= 1
        else:
            data = unpack(data, _BITS[tag], count)
            count = int(np.count_nonzero(data == _most(tag)))
        stages.append(_Stage(tag, data))
    return stages, count
