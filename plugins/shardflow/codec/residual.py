"""Words stored as steps from other words that the reader has too: where anything changed, and by how much.

Three things keep this small: blocks without any change cost a bit; a step is counted in values of the element type, so
that a carry from the mantissa to the exponent costs nothing; and steps are kept by class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from shardflow.codec.buffers import scratch
from shardflow.codec.classes import Classes, choose
from shardflow.codec.dealing import low_zeros, read_steps, space, write_steps
from shardflow.codec.kernels import flag_kernels_for, step_kernels_for
from shardflow.codec.kernels.flags import FLAGS_AT_ONCE, flags_for
from shardflow.codec.packing import packed_size
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.kernels.flags import Flags
    from shardflow.codec.numbers import Number
    from shardflow.codec.runs import RunReader, RunWriter

BLOCK = 32  # words
_NEARLY_ALL = 7 / 8  # blocks changed, above which leaving out the others is not worth the copy

_Flags = npt.NDArray[np.bool_]


class Look(NamedTuple):
    """What a sample says: about the bits that all words take, and classes that suit steps like these."""

    bits: float
    classes: Classes
    low: int
    whole: bool  # whether blocks without a change are kept


class _Stepped(NamedTuple):
    """Steps, what they start from, and which blocks they are of."""

    number: Number
    changed: _Flags
    steps: Words
    starts: Words

    @property
    def is_whole(self) -> bool:
        return bool(self.changed.all())


def look(words: Words, starts: Words, number: Number, stand_for: int) -> Look:
    """What so many words will take that these `stand_for`, and how to store them."""
    stepped = _stepped(words, starts, number)
    share = stepped.steps.size / words.size
    chosen = choose(stepped.starts, stepped.steps, stepped.number, int(share * stand_for))
    return Look(chosen.bits + stand_for / BLOCK, chosen, stepped.number.low, stepped.is_whole)


def write(words: Words, starts: Words, number: Number, writer: RunWriter, seen: Look | None = None) -> None:
    """`words`, for a reader who has `starts`, as many; a look at a sample of them need not be taken again."""
    stepped = _stepped(words, starts, number)
    writer.put(bytes([stepped.number.low]))
    if stepped.changed.size:
        writer.run(0, np.packbits(stepped.changed, bitorder="little"))
    is_typical = seen is not None and (seen.low, seen.whole) == (stepped.number.low, stepped.is_whole)
    kernels = step_kernels_for(words.nbytes)
    write_steps(
        stepped.steps, stepped.starts, stepped.number, kernels, writer, seen.classes if seen and is_typical else None
    )


def _stepped(words: Words, starts: Words, number: Number) -> _Stepped:
    number = replace(number, low=low_zeros(words, starts, number))
    steps = space("steps", words.size, number)
    step_kernels_for(words.nbytes).steps(words, starts, number, steps)
    changed = changed_blocks(words, starts)
    if np.count_nonzero(changed) > _NEARLY_ALL * changed.size:
        changed.fill(True)
    if not changed.all():
        steps, starts = _of_blocks(steps, changed, "some"), _of_blocks(starts, changed, "starts")
    return _Stepped(number, changed, steps, starts)


def changed_blocks(words: Words, starts: Words) -> _Flags:
    """Which of the whole blocks hold a word that changed."""
    changed: _Flags = by_block(unequal(words, starts), words.size) != 0
    return changed


def unequal(words: Words, starts: Words) -> Flags:
    """Which words changed, in this thread's work space."""
    flags: Flags = scratch("unequal", 8 * flags_for(words.size)).view("<u8")
    flag_kernels_for(words.nbytes).unequal(words, starts, flags)
    return flags


def by_block(flags: Flags, count: int) -> npt.NDArray[np.uint32]:
    """The flags of each whole block as one number."""
    assert FLAGS_AT_ONCE == 2 * BLOCK
    return flags.view("<u4")[: count // BLOCK]


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
    changed = read_changed(reader, out.size // BLOCK)
    some = starts if changed.all() else _of_blocks(starts, changed, "starts")
    steps = read_steps(reader, some, number, kernels)
    kernels.walked(_among_others(steps, changed, out.size), starts, number, out)


def read_changed(reader: RunReader, count: int) -> _Flags:
    """Which of `count` blocks changed."""
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
