"""Which words are worth a step each, changed or not: those below an exponent, judged on a sample.

A step of an optimizer that is less than half a value away is rounded away. So after a few steps of training nearly all
small words of 16 bits have moved and hardly a large one, and few words lie between. To list the few large ones that
moved is quicker than to look at all of them, and takes hardly more space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec.dealing import low_zeros, space
from shardflow.codec.kernels import step_kernels_for
from shardflow.codec.residual import BLOCK
from shardflow.codec.tails import KINDS, extra_bits, kinds_of

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number

_MOST_WORDS = 0.25  # with a step, and
_MOST_BITS = 0.05  # of all bits, above which it pays to give each word a step: that takes less, and hardly longer
_MANY = 1 / 2  # blocks changed, above which leaving out the others is not worth it
_FEW_WORDS = 0.14  # with a step, above which
_PRICE = 0.3  # bits must be saved by each step that a word has whether it changed or not

_Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edge:
    """Where words begin that are listed if they changed; those below have a step each."""

    exponent: int
    bits: float  # that a word takes, about


def find(words: Words, starts: Words, number: Number) -> Edge | None:
    """The best edge for a sample: `words`, and what a reader has for each. None if a step for each word is better."""
    if np.count_nonzero(words != starts) > _MOST_WORDS * words.size:
        return None
    number = replace(number, low=low_zeros(words, starts, number))
    steps = space("steps", words.size, number)
    step_kernels_for(words.nbytes).steps(words, starts, number, steps)
    moved = steps != 0
    in_block = np.repeat(blocks_with_steps(moved.reshape(-1, BLOCK).any(axis=1)), BLOCK)
    exponents = (starts >> number.mantissa & number.exponents).astype(np.int64)
    present = _counts(exponents[in_block], number)
    changed = _counts(exponents[moved], number)
    above, changed_above = _from(present), _from(changed)
    bits = np.append(0.0, np.cumsum(_entropy(changed, present))) + _entropy(changed_above, above)
    shares = (above[0] - above + changed_above) / words.size
    edge = int(bits.argmin())
    if shares[edge] > _FEW_WORDS:
        edge = int((bits + _PRICE * (above[0] - above)).argmin())
    total = float(bits[edge]) + _bits_of(steps[moved])
    is_worth = shares[edge] <= _MOST_WORDS and total <= _MOST_BITS * 8 * number.width * words.size
    return Edge(edge, total / words.size) if is_worth else None


def blocks_with_steps(changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The blocks that may hold words with steps: those that changed, or all where to tell them apart is of no use."""
    return np.ones_like(changed) if np.count_nonzero(changed) > _MANY * changed.size else changed


def _counts(exponents: npt.NDArray[np.int64], number: Number) -> _Counts:
    return np.bincount(exponents, minlength=number.exponents + 1).astype(np.float64)


def _from(counts: _Counts) -> _Counts:
    """The sums from each to the last, and nothing behind it."""
    return np.append(np.cumsum(counts[::-1])[::-1], 0.0)


def _entropy(chosen: _Counts, among: _Counts) -> _Counts:
    """The bits that it takes to say which were chosen."""
    return _weighted(among) - _weighted(chosen) - _weighted(among - chosen)


def _weighted(counts: _Counts) -> _Counts:
    weighted: _Counts = counts * np.log2(np.maximum(counts, 1))
    return weighted


def _bits_of(steps: Words) -> float:
    """The entropy of steps by their kind, and what tells one of a kind from another."""
    counts = np.bincount(kinds_of(steps), minlength=KINDS).astype(np.float64)
    return float(_weighted(counts.sum()) - _weighted(counts).sum() + (counts * extra_bits()).sum())
