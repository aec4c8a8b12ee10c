"""Words of which few changed, stored as steps from others: small ones all have a step, of large ones those that moved.

What the other residual does for every word of a changed block is done here for a few words only: compared and copied
are all of them, at the speed of memory, and no more than that.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec import stages, streams
from shardflow.codec.buffers import scratch
from shardflow.codec.dealing import low_zeros, read_steps, space, write_steps
from shardflow.codec.edges import blocks_with_steps
from shardflow.codec.kernels import flag_kernels_for, step_kernels_for
from shardflow.codec.kernels.flags import flags_for
from shardflow.codec.residual import BLOCK, by_block, read_changed, unequal
from shardflow.codec.tails import KINDS, Tail, kinds_of
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.flags import Flags, Places
    from shardflow.codec.kernels.steps import StepKernels
    from shardflow.codec.numbers import Number
    from shardflow.codec.runs import RunReader, RunWriter

_HEADER = struct.Struct("<HI")  # the edge, and how many words are listed
_GAPS = "<u4"
_SAMPLE = 16 << 10

_Blocks = npt.NDArray[np.bool_]


def write(words: Words, starts: Words, number: Number, edge: int, writer: RunWriter) -> None:
    """`words`, for a reader who has `starts`, as many; all that start from an exponent below `edge` have a step."""
    kernels, flags = step_kernels_for(words.nbytes), flag_kernels_for(words.nbytes)
    listed = unequal(words, starts)
    changed = blocks_with_steps(by_block(listed, words.size) != 0)
    if not edge:
        changed.fill(True)
    below = _below(starts, number, edge, changed)
    np.bitwise_and(listed, ~below, out=listed)
    gaps = _gaps(flags.places(listed))
    writer.put(_HEADER.pack(edge, gaps.size))
    if changed.size:
        writer.run(0, np.packbits(changed, bitorder="little"))
    _write_gaps(gaps, kernels, writer)
    at = flags.places(np.bitwise_or(listed, below, out=listed))
    picked, picked_starts = _taken(words, at, "some"), _taken(starts, at, "starts")
    number = replace(number, low=low_zeros(picked, picked_starts, number))
    writer.put(bytes([number.low]))
    steps = space("steps", at.size, number)
    kernels.steps(picked, picked_starts, number, steps)
    write_steps(steps, picked_starts, number, kernels, writer)


def read(reader: RunReader, starts: Words, number: Number, out: Words) -> None:
    """Fill `out` with `starts`, but for the words that have a stored step from there."""
    kernels, flags = step_kernels_for(out.nbytes), flag_kernels_for(out.nbytes)
    edge, count = _HEADER.unpack(reader.take(_HEADER.size))
    if edge > number.exponents + 1 or count > out.size:
        raise CorruptData(f"{count} words are listed from exponent {edge} on, where there are {out.size} of {number}")
    below = _below(starts, number, edge, read_changed(reader, out.size // BLOCK))
    listed = _flags("listed", out.size)
    last = flags.marked(_read_gaps(reader, kernels, count), listed)
    if last >= out.size:
        raise CorruptData(f"word {last} is listed, where there are {out.size}")
    if (listed & below).any():
        raise CorruptData("a word is listed that has a step in any case")
    at = flags.places(np.bitwise_or(listed, below, out=listed))
    number = replace(number, low=reader.take(1)[0])
    if number.low > number.most_low:
        raise CorruptData(f"words of {number.width} bytes cannot have {number.low} low bits that do not count")
    picked = _taken(starts, at, "starts")
    steps = read_steps(reader, picked, number, kernels)
    arrived = space("steps", at.size, number)
    kernels.walked(steps, picked, number, arrived)
    np.copyto(out, starts)
    out[at] = arrived


def _flags(slot: str, count: int) -> Flags:
    return scratch(slot, 8 * flags_for(count)).view("<u8")


def _below(starts: Words, number: Number, edge: int, changed: _Blocks) -> Flags:
    """Which words have steps in any case: those below the edge, in blocks that changed or behind the last one."""
    below = _flags("below", starts.size)
    if not edge:
        below.fill(0)
        return below
    flag_kernels_for(starts.nbytes).below(starts, number, edge, below)
    if not changed.all():
        blocks = by_block(below, starts.size)
        np.multiply(blocks, changed, out=blocks)
    return below


def _gaps(places: Places) -> Words:
    """How many words lie before each, behind the one before it."""
    gaps = np.empty(places.size, _GAPS)
    if places.size:
        gaps[0] = places[0]
        np.subtract(places[1:], places[:-1] + 1, out=gaps[1:], casting="unsafe")
    return gaps


def _write_gaps(gaps: Words, kernels: StepKernels, writer: RunWriter) -> None:
    if gaps.size:
        picked = streams.sample(gaps, _SAMPLE)
        tail = Tail(np.bincount(kinds_of(picked), minlength=KINDS) * (gaps.size / picked.size))
        stages.write_values(gaps, stages.plan(tail, gaps.itemsize), kernels, writer)


def _read_gaps(reader: RunReader, kernels: StepKernels, count: int) -> Words:
    gaps: Words = scratch("gaps", count * 4).view(_GAPS)
    stages.read_values(reader, kernels, gaps)
    return gaps


def _taken(words: Words, at: Places, slot: str) -> Words:
    out: Words = scratch(slot, at.size * words.itemsize).view(words.dtype)
    return np.take(words, at, out=out, mode="clip")  # every place is there; to ask for errors would mean another copy
