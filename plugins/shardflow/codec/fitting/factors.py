"""Factors found in the difference of two matrices, or made of those of an adapter.

A rounded number says within which bounds its change lay, and the smaller it is, the more closely. So the factors are
fitted to the numbers that say most, each weighted by what it says. Fitted to all alike, as a truncated singular value
decomposition does, they would drown in the rounding of the large ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardflow.codec.factors import MOST_RANK, Factors
from shardflow.codec.fitting.bounds import Changes, changes
from shardflow.codec.fitting.low_rank import leading, solved, solved_rows
from shardflow.codec.fitting.quantising import Sample, quantised
from shardflow.codec.fitting.spectrum import noise_of
from shardflow.codec.merges import DTYPES, changed
from shardflow.codec.rounding import from_doubles
from shardflow.dtype import DType

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from shardflow.codec.kernels.contract import Words

_AT_ONCE = 1 << 24  # numbers that are fitted at a time; of larger matrices, some rows stand for all
_FEWEST_ROWS = 512
_LOOK = 384  # rows and columns that tell whether there is a low rank at all
_CLOSER = 1024  # the same where that was too few: what does not stand out from these takes as much as it saves
_FIRST_ROUNDS, _MORE_ROUNDS = 8, 32
_SAMPLE = 48  # rows on which the factors are tried
_USEFUL = 0.8  # of what was changed, the share that factors may miss
_PROMISING = 0.95  # the same before they are fitted to what says most

_Rows = npt.NDArray[np.int64]


def fit_factors(new: Buffer, base: Buffer, dtype: DType, rows: int, rank_max: int = MOST_RANK) -> Factors | None:
    """The factors by which a whole matrix of `rows` rows was changed, or None if nothing of low rank was added."""
    words, before = _matrix(new, dtype, rows), _matrix(base, dtype, rows)
    if words.shape != before.shape:
        raise ValueError(f"a matrix of {words.shape} numbers was not made of one of {before.shape}")
    rank_max = min(rank_max, min(words.shape) // 3)
    if dtype not in DTYPES or rank_max < 1:
        return None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return _fit(words, before, dtype, rank_max)
    except np.linalg.LinAlgError:
        return None  # numbers so far apart that nothing can be solved for were not made by merging an adapter


def _fit(words: Words, before: Words, dtype: DType, rank_max: int) -> Factors | None:
    rows, columns = words.shape
    noise = noise_of(_part(words, before, dtype, _LOOK), words.shape, rank_max)
    if noise is None:
        return None
    if words.size > 2 * _CLOSER**2 and leading(_part(words, before, dtype, _CLOSER), rank_max, noise) is None:
        return None
    picked = _evenly(rows, max(_AT_ONCE // columns, _FEWEST_ROWS))
    known = changes(words[picked], before[picked], dtype, change_is_rounded=True)
    right = leading(known, rank_max, noise)
    if right is None or not _explains(words, before, dtype, right):
        return None
    right = solved(known, right, _FIRST_ROUNDS)
    is_rounded = _is_rounded(words, before, dtype, right)
    if not is_rounded and dtype is not DType.F32:  # where nothing is known more closely now
        known = changes(words[picked], before[picked], dtype, is_rounded)
    right = solved(known, right, _MORE_ROUNDS)
    all_known = len(picked) == rows
    left = solved_rows(known, right) if all_known else _left(words, before, dtype, right, is_rounded)
    some = _evenly(rows, _SAMPLE)
    sample = Sample(some, before[some], words[some], dtype, is_rounded)
    change = left[some].astype(np.float64) @ right
    if sample.missed(change) > _USEFUL * sample.missed(0 * change):
        return None
    return quantised(left, right, sample)


def _part(words: Words, before: Words, dtype: DType, most: int) -> Changes:
    """What some rows and columns say, evenly spread."""
    part = np.ix_(_evenly(words.shape[0], most), _evenly(words.shape[1], most))
    return changes(words[part], before[part], dtype, change_is_rounded=True)


def _explains(words: Words, before: Words, dtype: DType, right: npt.NDArray[Any]) -> bool:
    """Whether a few rows are predicted at all: the rest of the work is only worth it if they are."""
    some = _evenly(len(words), _SAMPLE)
    change = _left(words[some], before[some], dtype, right, is_rounded=True).astype(np.float64) @ right
    sample = Sample(some, before[some], words[some], dtype, change_is_rounded=False)
    return sample.missed(change) <= _PROMISING * sample.missed(0 * change)


def _is_rounded(words: Words, before: Words, dtype: DType, right: npt.NDArray[Any]) -> bool:
    """Whether the change seems to have been rounded before it was added."""
    some = _evenly(len(words), _SAMPLE)
    left = _left(words[some], before[some], dtype, right, is_rounded=True)
    ways = [Sample(some, before[some], words[some], dtype, is_rounded) for is_rounded in (False, True)]
    missed = [way.missed(left.astype(np.float64) @ right) for way in ways]
    return missed[1] < missed[0]


def _left(words: Words, before: Words, dtype: DType, right: npt.NDArray[Any], is_rounded: bool) -> npt.NDArray[Any]:
    step = max(_AT_ONCE // words.shape[1], 1)
    parts = [slice(first, first + step) for first in range(0, len(words), step)]
    return np.concatenate([solved_rows(changes(words[part], before[part], dtype, is_rounded), right) for part in parts])


def factors_from_adapter(
    a: npt.ArrayLike, b: npt.ArrayLike, scale: float, base: Buffer, dtype: DType
) -> Factors | None:
    """The factors of an adapter that adds `scale` times `b` (rows, rank) times `a` (rank, columns) to a matrix.

    The matrix itself says how fine they have to be. None where they are no finite numbers.
    """
    right, left = np.asarray(a, np.float64), np.asarray(b, np.float64) * scale
    before = _matrix(base, dtype, left.shape[0])
    if before.shape[1] != right.shape[1] or left.shape[1] != right.shape[0]:
        raise ValueError(f"an adapter of {left.shape} by {right.shape} does not fit a matrix of {before.shape} numbers")
    if not (np.isfinite(left).all() and np.isfinite(right).all()) or dtype not in DTYPES:
        return None
    rows = _evenly(before.shape[0], _SAMPLE)
    words = changed(before[rows], from_doubles(left[rows] @ right, 0), dtype, change_is_rounded=False)
    return quantised(left, right, Sample(rows, before[rows], words, dtype, change_is_rounded=False), finer=3)


def _matrix(data: Buffer, dtype: DType, rows: int) -> Words:
    words = np.frombuffer(memoryview(data).cast("B"), f"<u{dtype.width}")
    if rows < 1 or words.size % rows or not words.size:
        raise ValueError(f"{words.size} numbers are no matrix of {rows} rows")
    return words.reshape(rows, -1)


def _evenly(count: int, most: int) -> _Rows:
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
