"""Steps between words, dealt out to classes by the words that they start from, and each class stored in its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import classes, stages
from shardflow.codec.buffers import scratch

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.steps import Grouping, StepKernels
    from shardflow.codec.numbers import Number
    from shardflow.codec.runs import RunReader, RunWriter

_LOOK_FIRST = 1024  # words


def low_zeros(words: Words, starts: Words, number: Number) -> int:
    """How many low bits are zero in all words: in float32 that was bfloat16, 16; in float32 that was float16, 13."""
    for sample in (_LOOK_FIRST, words.size):
        seen = int(np.bitwise_or.reduce(words[:sample]) | np.bitwise_or.reduce(starts[:sample]))
        zeros = (seen & -seen).bit_length() - 1 if seen else number.most_low
        if not zeros:
            break
    return min(zeros, number.most_low)


def write_steps(
    steps: Words,
    starts: Words,
    number: Number,
    kernels: StepKernels,
    writer: RunWriter,
    chosen: classes.Classes | None = None,
) -> None:
    """The steps from `starts`, which the reader has, in classes that may have been chosen; their memory is used up."""
    chosen = chosen or classes.choose(starts, steps, number)
    begins = chosen.starts
    classes.write_starts(begins, writer)
    if len(begins) == 1:
        stages.write_values(steps, stages.plan(chosen.each[0].tail, number.width), kernels, writer)
        return
    grouping = kernels.grouped(starts, number, classes.table_of(begins, number), len(begins))
    by_class = space("by class", steps.size, number)
    kernels.by_class(steps, grouping, by_class)
    for values, each in zip(_parted(by_class, grouping), chosen.each, strict=True):
        stages.write_values(values, stages.plan(each.tail, number.width), kernels, writer)


def read_steps(reader: RunReader, starts: Words, number: Number, kernels: StepKernels) -> Words:
    """The steps from `starts`, in this thread's work space."""
    begins = classes.read_starts(reader, number)
    if len(begins) == 1:
        only = space("some", starts.size, number)
        stages.read_values(reader, kernels, only)
        return only
    grouping = kernels.grouped(starts, number, classes.table_of(begins, number), len(begins))
    by_class = space("by class", starts.size, number)
    for values in _parted(by_class, grouping):
        stages.read_values(reader, kernels, values)
    steps = space("some", starts.size, number)
    kernels.in_place(by_class, grouping, steps)
    return steps


def _parted(by_class: Words, grouping: Grouping) -> list[Words]:
    return np.split(by_class, np.cumsum(grouping.counts)[:-1])


def space(slot: str, count: int, number: Number) -> Words:
    """This thread's work space `slot` for so many words."""
    room: Words = scratch(slot, count * number.width).view(number.dtype)
    return room
