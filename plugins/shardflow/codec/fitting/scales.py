"""Which multiplication came before a cast: read off the numbers themselves.

A rounded value says between which two bounds its multiplier was. What one multiplier was used for has bounds in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec import streams
from shardflow.codec.against import estimate
from shardflow.codec.casts import cast
from shardflow.codec.encoded import flat
from shardflow.codec.fitting.bounds import neighbours
from shardflow.codec.numbers import number_of
from shardflow.codec.rounding import FLOATS, is_ordinary, narrowed, widened
from shardflow.codec.scales import Scale
from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.predicted import Prediction
    from shardflow.codec.rounding import Bits

_SAMPLE = 64 << 10
_FEW = 8 << 10  # where many multiplications are tried
_GOOD_ENOUGH = 1 / 200  # of the chunk: no other scale need be tried
_BLOCK = 128  # words: the side of the squares that block-wise quantisation scales
_TIMES = (1, 2, 3, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 200, 250)

_Doubles = npt.NDArray[np.float64]


def fitted_cast(
    data: Buffer,
    bases: Sequence[Buffer],
    source: DType,
    target: DType,
    left_out: int = 0,
    row: int = 0,
    before: int = 0,
) -> Prediction:
    """The cast of the bases that comes nearest to `data`, with a scale if one helps.

    If the words are those of a matrix, there may be a scale for each row of `row` words, or for each square block;
    `before` words of the first row lie before the chunk.
    """
    view = flat(data)
    best = cast(bases, source, target, len(view), left_out)
    size = estimate(view, target, best)
    if size <= _GOOD_ENOUGH * len(view) or not {source, target} <= FLOATS - {DType.F64}:
        return best
    words = np.frombuffer(view, best.number.dtype, len(view) // best.number.width)
    bits = cast(bases, source, DType.F32, 4 * words.size, left_out).words(0, words.size).copy()
    for scale in _scales(bits, words, source, target, row, before):
        scaled = cast(bases, source, target, len(view), left_out, scale)
        scaled_size = estimate(view, target, scaled)
        if scaled_size < size:
            size, best = scaled_size, scaled
        if size <= _GOOD_ENOUGH * len(view):
            break
    return best


def _scales(bits: Bits, words: Words, source: DType, target: DType, row: int, before: int) -> Iterator[Scale]:
    picked, rounded = streams.sample(bits, _SAMPLE), streams.sample(words, _SAMPLE)
    if source is target:
        yield from _repeated(picked, rounded, target)
        return
    low, high = _bounds(picked, rounded, target)
    yield Scale(_between(low.max(keepdims=True), high.min(keepdims=True)))
    for width in (row, _BLOCK) if row else ():
        if row % width == 0:
            yield _for_each(width, row, before, *_bounds(bits, words, target))


def _bounds(bits: Bits, words: Words, target: DType) -> tuple[_Doubles, _Doubles]:
    """Between what the multiplier of each value was; from 0 to infinity where the value does not say."""
    top = number_of(target).top
    magnitudes: Words = np.bitwise_and(words, (1 << top) - 1)
    low, high = neighbours(magnitudes, target)
    factors = np.abs(bits.view("<f4")).astype(np.float64)
    agrees = (bits >> 31 == words >> top) | (magnitudes == 0)
    telling = is_ordinary(bits) & np.isfinite(low) & agrees
    with np.errstate(all="ignore"):
        low, high = np.maximum(low, 0) / factors, high / factors
    return np.where(telling, low, 0), np.where(telling, high, np.inf)


def _between(low: _Doubles, high: _Doubles) -> npt.NDArray[np.float32]:
    """A multiplier between its bounds, or near them where they contradict each other."""
    low, high = np.maximum(low, 1e-30), np.minimum(high, 1e30)
    return np.sqrt(low * high).astype(np.float32)


def _for_each(width: int, row: int, before: int, low: _Doubles, high: _Doubles) -> Scale:
    """A multiplier for every `width` words of a row, the same one down the rows as far as the bounds allow."""
    outside = before, -(before + low.size) % row
    low_of = np.pad(low, outside).reshape(-1, row // width, width).max(axis=2)
    high_of = np.pad(high, outside, constant_values=np.inf).reshape(-1, row // width, width).min(axis=2)
    multipliers = _between(*_shared(low_of, high_of)).ravel()
    begin, end = before // width, -(-(before + low.size) // width)
    return Scale(multipliers[begin:end].copy(), width, before % width)


def _shared(low: _Doubles, high: _Doubles) -> tuple[_Doubles, _Doubles]:
    """The bounds that as many rows as possible have in common, from the first row down, column by column."""
    low, high = low.copy(), high.copy()
    joins = np.zeros(low.shape, np.bool_)
    for above in range(len(low) - 1):
        both = np.maximum(low[above], low[above + 1]), np.minimum(high[above], high[above + 1])
        joins[above] = both[0] <= both[1]
        low[above + 1] = np.where(joins[above], both[0], low[above + 1])
        high[above + 1] = np.where(joins[above], both[1], high[above + 1])
    for above in reversed(range(len(low) - 1)):
        low[above] = np.where(joins[above], low[above + 1], low[above])
        high[above] = np.where(joins[above], high[above + 1], high[above])
    return low, high


def _repeated(bits: Bits, words: Words, dtype: DType) -> Iterator[Scale]:
    """One multiplier, used once for every step of a training that reached these numbers with nothing else."""
    bits, words = streams.sample(bits, _FEW), streams.sample(words, _FEW)
    after = widened(words, dtype)
    changed = is_ordinary(bits) & is_ordinary(after) & (bits != after)
    growth = after[changed].view("<f4").astype(np.float64) / bits[changed].view("<f4") - 1
    if not growth.size:
        return
    ratios = [1 + ratio for ratio in (_mean_of_most(growth), _densest(growth)) if ratio > -1]
    scales = [Scale(np.array([ratio ** (1 / n)], np.float32), times=n) for ratio in ratios for n in _TIMES]
    if scales:  # numbers that changed their sign were not multiplied by anything near one
        yield min(scales, key=lambda scale: _miss(narrowed(scale.applied(bits, 0), dtype), words))


def _miss(expected: Words, words: Words) -> float:
    """About the bits that it takes to come from one to the other."""
    apart = np.maximum(expected, words) - np.minimum(expected, words)
    return float(np.log2(1 + apart.astype(np.float64)).sum())


def _mean_of_most(growth: _Doubles) -> float:
    """Many small steps, each rounded, scatter: the mean of what is of the most common sign and order of magnitude."""
    kinds = np.round(np.log2(np.abs(growth)) * 2) * np.sign(growth)
    values, counts = np.unique(kinds, return_counts=True)
    return float(growth[np.abs(kinds - values[counts.argmax()]) <= 1].mean())


def _densest(growth: _Doubles) -> float:
    """The half of the values that lie nearest to each other, the half of those, and so on."""
    values = np.sort(growth)
    while values.size > 2:
        half = values.size // 2
        first = int((values[half:] - values[:-half]).argmin())
        values = values[first : first + half]
    return float(values[0])
