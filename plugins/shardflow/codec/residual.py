"""Words stored as steps from other words that the reader has too: where anything changed, and by how much.

Three things keep this small: blocks without any change cost a bit; a step is counted in values of the element type, so
that a carry from the mantissa to the exponent costs nothing; and steps are kept by class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec import classes, stages
from shardflow.codec.buffers import scratch
from shardflow.codec.kernels import step_kernels_for
from shardflow.codec.packing import packed_size
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.steps import Grouping, StepKernels
    from shardflow.codec.numbers import Number
    from shardflow.codec.runs import RunReader, RunWriter

BLOCK = 32  # words
_NEARLY_ALL = 7 / 8  # blocks changed, above which leaving out the others is not worth the copy
_LOOK_FIRST = 1024  # words

_Flags = npt.NDArray[np.bool_]


def write(words: Words, starts: Words, number: Number, writer: RunWriter) -> None:
    """`words`, for a reader who has `starts`, as many."""
    number = replace(number, low=_low_zeros(words, starts, number))
    writer.put(bytes([number.low]))
    kernels = step_kernels_for(words.nbytes)
    steps = _space("steps", words.size, number)
    kernels.steps(words, starts, number, steps)
    changed = kernels.changed_blocks(steps, BLOCK)
    if np.count_nonzero(changed) > _NEARLY_ALL * changed.size:
        changed.fill(True)
    if changed.size:
        writer.run(0, np.packbits(changed, bitorder="little"))
    if not changed.all():
        steps, starts = _of_blocks(steps, changed, "some"), _of_blocks(starts, changed, "starts")
    _write_steps(steps, starts, number, kernels, writer)


def _low_zeros(words: Words, starts: Words, number: Number) -> int:
    """How many low bits are zero in all words: in float32 that was bfloat16, 16; in float32 that was float16, 13."""
    for sample in (_LOOK_FIRST, words.size):
        seen = int(np.bitwise_or.reduce(words[:sample]) | np.bitwise_or.reduce(starts[:sample]))
        zeros = (seen & -seen).bit_length() - 1 if seen else number.most_low
        if not zeros:
            break
    return min(zeros, number.most_low)


def _write_steps(steps: Words, starts: Words, number: Number, kernels: StepKernels, writer: RunWriter) -> None:
    chosen = classes.choose(starts, steps, number)
    begins = [each.start for each in chosen]
    classes.write_starts(begins, writer)
    grouping = kernels.grouped(starts, number, classes.table_of(begins, number), len(begins))
    by_class = _space("by class", steps.size, number)
    kernels.by_class(steps, grouping, by_class)
    for values, each in zip(_parted(by_class, grouping), chosen, strict=True):
        stages.write_values(values, stages.plan(each.tail, number.width), kernels, writer)


def _parted(by_class: Words, grouping: Grouping) -> list[Words]:
    return np.split(by_class, np.cumsum(grouping.counts)[:-1])


def _of_blocks(words: Words, chosen: _Flags, slot: str) -> Words:
    """The words of the chosen blocks, and those behind the last whole block."""
    behind = chosen.size * BLOCK
    kept = int(np.count_nonzero(chosen)) * BLOCK
    out: Words = scratch(slot, (kept + words.size - behind) * words.itemsize).view(words.dtype)
    np.compress(chosen, words[:behind].reshape(-1, BLOCK), axis=0, out=out[:kept].reshape(-1, BLOCK))
    out[kept:] = words[behind:]
    return out


def read(reader: RunReader, starts: Words, number: Number, out: Words) -> None:
    """Fill `out` with the words that lie at the stored steps from `starts`."""
    number = replace(number, low=reader.take(1)[0])
    if number.low > number.most_low:
        raise CorruptData(f"words of {number.width} bytes cannot have {number.low} low bits that do not count")
    kernels = step_kernels_for(out.nbytes)
    changed = _read_changed(reader, out.size // BLOCK)
    some = starts if changed.all() else _of_blocks(starts, changed, "starts")
    begins = classes.read_starts(reader, number)
    grouping = kernels.grouped(some, number, classes.table_of(begins, number), len(begins))
    by_class = _space("by class", some.size, number)
    for values in _parted(by_class, grouping):
        stages.read_values(reader, kernels, values)
    steps = _space("some", some.size, number)
    kernels.in_place(by_class, grouping, steps)
    kernels.walked(_among_others(steps, changed, out.size), starts, number, out)


def _read_changed(reader: RunReader, count: int) -> _Flags:
    if not count:
        return np.zeros(0, np.bool_)
    _, bits = reader.run([packed_size(count, 1)], "changed")
    return np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)


def _among_others(steps: Words, changed: _Flags, count: int) -> Words:
    """The steps of changed blocks among those of the others, which are zero."""
    if steps.size == count:
        return steps
    out: Words = scratch("steps", count * steps.itemsize).view(steps.dtype)
    behind = changed.size * BLOCK
    blocks = out[:behind].reshape(-1, BLOCK)
    blocks.fill(0)
    kept = int(np.count_nonzero(changed)) * BLOCK
    blocks[changed] = steps[:kept].reshape(-1, BLOCK)
    out[behind:] = steps[kept:]
    return out


def _space(slot: str, count: int, number: Number) -> Words:
    space: Words = scratch(slot, count * number.width).view(number.dtype)
    return space
