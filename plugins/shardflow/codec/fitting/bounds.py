"""What a rounded sum says about its terms: between which two changes of a number its new value must have come about."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shardflow.codec.numbers import number_of
from shardflow.codec.rounding import widened
from shardflow.dtype import DType

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words

Doubles = npt.NDArray[np.float64]
Reals = npt.NDArray[Any]

_AT_ONCE = 1 << 20  # numbers
_LARGEST = 2.0**40  # beyond it, and where rounding is as fine, sums of squares would overflow; no weights lie there

# How much of itself a change may have lost before it was added.
_ROUNDING = {DType.BF16: 2.0**-8, DType.F16: 2.0**-11, DType.F32: 2.0**-23}


class Changes(NamedTuple):
    """For each number, the middle of the changes that are possible, and how far they reach to both sides."""

    middle: Reals
    reach: Reals  # infinite where nothing is known


def values_of(words: Words, dtype: DType) -> Doubles:
    with np.errstate(invalid="ignore"):
        return widened(words, dtype).view("<f4").astype(np.float64)


def neighbours(magnitudes: Words, dtype: DType) -> tuple[Doubles, Doubles]:
    """For words without a sign, the numbers halfway to the values below and above; below zero, a negative one."""
    here, after = values_of(magnitudes, dtype), values_of(magnitudes + 1, dtype)
    before = np.where(magnitudes > 0, values_of(np.maximum(magnitudes, 1) - 1, dtype), -after)
    return (before + here) / 2, (here + np.where(np.isfinite(after), after, np.inf)) / 2


def changes(words: Words, base: Words, dtype: DType, change_is_rounded: bool) -> Changes:
    """What may have been added to the rows of `base` if those of `words` are the rounded sums.

    A change that was rounded before it was added may be off by that, too. In float32 it always was, in the sums that it
    was made of; what is said about narrower numbers is in float32.
    """
    precision = np.float64 if dtype is DType.F32 else np.float32
    out = Changes(np.empty(words.shape, precision), np.empty(words.shape, precision))
    step = max(_AT_ONCE // words.shape[1], 1)
    for first in range(0, words.shape[0], step):
        part = slice(first, first + step)
        out.middle[part], out.reach[part] = _changes(words[part], base[part], dtype, change_is_rounded)
    return out


def _changes(words: Words, base: Words, dtype: DType, change_is_rounded: bool) -> tuple[Reals, Reals]:
    start: Reals
    if dtype.width == 2:
        every = _every_word(dtype)
        sums, reach, start = every.middle.take(words), every.reach.take(words), every.value.take(base)
    else:
        (sums, reach), start = _bounds(words, dtype), values_of(base, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = sums - start
        if change_is_rounded or dtype is DType.F32:
            reach += np.abs(middle) * middle.dtype.type(_ROUNDING[dtype])
        known = (np.abs(middle) < _LARGEST) & (reach < _LARGEST) & (reach > 1 / _LARGEST**2)
    if not known.all():
        middle[~known], reach[~known] = 0, np.inf
    return middle, reach


def _bounds(words: Words, dtype: DType) -> tuple[Doubles, Doubles]:
    """The middle of what is rounded to each word, and how far that reaches to both sides."""
    top = number_of(dtype).top
    magnitudes: Words = np.bitwise_and(words, (1 << top) - 1)
    low, high = neighbours(magnitudes, dtype)
    sign = np.where(words >> top, -1.0, 1.0)
    with np.errstate(invalid="ignore"):
        return sign * (low + high) / 2, (high - low) / 2


class _Table(NamedTuple):
    middle: Reals
    reach: Reals
    value: Reals


@cache
def _every_word(dtype: DType) -> _Table:
    """All there is to know of a number of two bytes, word by word: looked up ten times sooner than worked out."""
    words = np.arange(1 << 16, dtype="<u2")
    with np.errstate(over="ignore", invalid="ignore"):
        return _Table(*(each.astype(np.float32) for each in (*_bounds(words, dtype), values_of(words, dtype))))
