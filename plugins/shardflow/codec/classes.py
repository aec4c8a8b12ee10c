"""Which steps are kept together: those that start from words of about the same size.

Training moves weights by about the same amount whatever their size, so the small ones move by more of *their* last
places. The exponent of the word that a step starts from tells how far it will go, and costs nothing: the reader has it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from shardflow.codec import streams
from shardflow.codec.tails import KINDS, Tail, extra_bits, kinds_of
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number
    from shardflow.codec.runs import RunReader, RunWriter

MOST_CLASSES = 32

_START = struct.Struct("<H")
_SAMPLE = 16 << 10
_MOST_GROUPS = 48  # of exponents that are looked at; float64 may have more
_BITS_A_CLASS = 8 * 90  # what the tables of its runs take
_WORTH_A_CLASS = 0.006  # of the bits in one class: what a class more must save, since each takes time both ways
_WORTH_SORTING = 0.97  # of the bits in one class: to sort words by class takes half of the time, in both directions

_Counts = npt.NDArray[np.float64]


class StepClass(NamedTuple):
    """Exponents from `start` to where the next class begins, and how long the steps from such words are."""

    start: int
    tail: Tail


class Classes(NamedTuple):
    """Ascending classes, the first of which begins at 0, and about the bits that the steps take in them."""

    each: list[StepClass]
    bits: float

    @property
    def starts(self) -> list[int]:
        return [one.start for one in self.each]


def table_of(starts: Sequence[int], number: Number) -> Bytes:
    """The class of every exponent there is, where classes begin at `starts`, the first of which is 0."""
    return np.repeat(np.arange(len(starts), dtype=np.uint8), np.diff([*starts, number.exponents + 1]))


def choose(words: Words, steps: Words, number: Number, stand_for: int = 0) -> Classes:
    """The classes that let `steps` from `words` take the least space, judged on a sample.

    Where the words are a sample already, they `stand_for` so many.
    """
    if not words.size:
        return Classes([StepClass(0, Tail([0.0] * KINDS))], 0.0)
    picked = streams.sample(words, _SAMPLE)
    kinds = kinds_of(streams.sample(steps, _SAMPLE))
    exponents = (picked >> number.mantissa & number.exponents).astype(np.int64)
    firsts = _firsts(np.bincount(exponents, minlength=number.exponents + 1))
    group = table_of([0, *firsts[1:]], number).astype(np.int64)[exponents]
    counted = np.bincount(group * KINDS + kinds, minlength=len(firsts) * KINDS).reshape(-1, KINDS)
    counts = counted.astype(np.float64) * (max(words.size, stand_for) / picked.size)
    together = counts.sum(axis=0, keepdims=True)
    in_one = _bits(together)
    cuts = [0, *_cheapest(counts, max(_BITS_A_CLASS, _WORTH_A_CLASS * in_one))]
    apart = np.add.reduceat(counts, cuts)
    in_several = _bits(apart)
    if in_several > _WORTH_SORTING * in_one:
        return Classes([StepClass(0, Tail(together[0]))], in_one)
    starts = [0, *(firsts[cut] for cut in cuts[1:])]
    return Classes([StepClass(start, Tail(held)) for start, held in zip(starts, apart, strict=True)], in_several)


def _firsts(counts: npt.NDArray[np.int64]) -> list[int]:
    """Where groups of neighbouring exponents begin: each has at least about its share of the words."""
    occurring = np.flatnonzero(counts)
    before = np.cumsum(counts[occurring]) - counts[occurring]
    _, kept = np.unique(before * _MOST_GROUPS // int(counts.sum()), return_index=True)
    return [int(first) for first in occurring[kept]]


def _cheapest(counts: _Counts, price: float) -> list[int]:
    """Where to cut groups, a row of counts each, into classes: the least entropy, and the price of each class."""
    while True:
        cuts = _cheapest_at(counts, price)
        if len(cuts) < MOST_CLASSES:
            return cuts
        price *= 2


def _cheapest_at(counts: _Counts, price: float) -> list[int]:
    totals = np.vstack([np.zeros_like(counts[:1]), np.cumsum(counts, axis=0)])
    best, begins = np.zeros(1), [0]
    for end in range(1, len(totals)):
        within = totals[end] - totals[:end]  # what each possible last class would hold
        costs = best + price + _weighted(within.sum(axis=1)) - _weighted(within).sum(axis=1)
        begins.append(int(costs.argmin()))
        best = np.append(best, costs.min())
    cuts = [begins[-1]]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    return cuts[-2::-1]


def _bits(counts: _Counts) -> float:
    """What steps take that are counted by class, a row each, and by kind."""
    entropy = _weighted(counts.sum(axis=1)).sum() - _weighted(counts).sum()
    return float(entropy + (counts.sum(axis=0) * extra_bits()).sum())


def _weighted(counts: _Counts) -> _Counts:
    """n log n, from which the entropy of counts is made."""
    weighted: _Counts = counts * np.log2(np.maximum(counts, 1))
    return weighted


def write_starts(starts: Sequence[int], writer: RunWriter) -> None:
    writer.put(bytes([len(starts)]) + b"".join(_START.pack(start) for start in starts[1:]))


def read_starts(reader: RunReader, number: Number) -> list[int]:
    count = reader.take(1)[0]
    if not 0 < count <= MOST_CLASSES:
        raise CorruptData(f"{count} classes are none or more than {MOST_CLASSES}")
    starts = [0, *(start for (start,) in _START.iter_unpack(reader.take((count - 1) * _START.size)))]
    if starts != sorted(set(starts)) or starts[-1] > number.exponents:
        raise CorruptData("classes do not begin at exponents in ascending order")
    return starts
