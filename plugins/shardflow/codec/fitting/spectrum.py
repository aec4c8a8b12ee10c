"""What a small part of a difference tells of all of it: whether looking for something of low rank is worth the time.

Rounding alone has singular values of a known size. Of a merged adapter a few stand out from these, and the others are
what rounding leaves. A training that moved every number raises them all: what stands out then explains too little to
be worth its factors, and the small ones are larger than rounding can make them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shardflow.codec.fitting.bounds import Changes

_ABOVE_NOISE = 1.15  # what a singular value must reach, of the largest that rounding alone would have
_ROUNDED_TWICE = 2.5  # times what rounding leaves: more is no rounding, even if the older numbers were rounded, too
_IN_SINGLES = 16.0  # the same in float32, where the sums that a change was made of are off by some of their last bits
_RAISED = 1.3  # of what rounding leaves: from here on, the whole spectrum was raised
_FACTOR_BITS = 8  # about what a number of a factor takes
_SURELY = 0.5  # of their cost, what factors must seem to save: a part of a matrix says so only roughly

_Doubles = npt.NDArray[np.float64]


def noise_of(part: Changes, shape: tuple[int, int], rank_max: int) -> float | None:
    """How many times what one rounding leaves is left beside a low rank; None if there is none that is worth a search.

    The `part` is some rows and columns of a matrix of this shape.
    """
    short = part.middle if part.middle.shape[0] <= part.middle.shape[1] else part.middle.T
    rounding = np.square(part.reach[np.isfinite(part.reach)], dtype=np.float64) / 3  # spread evenly between bounds
    if not rounding.size:
        return None
    with np.errstate(under="ignore"):
        squares = np.linalg.eigvalsh(short @ short.T)[::-1].astype(np.float64)  # much sooner than singular values
    rounded_once = edge(float(rounding.mean()), *short.shape) ** 2
    if (squares > rounded_once).sum() > min(rank_max, 0.9 * squares.size):
        return None
    noise = max(1.0, _raised(squares, float(rounding.mean()), short.shape[1]))
    rank = int((squares > noise * rounded_once).sum())
    if not rank:
        return noise if noise < _RAISED else None  # too little of it to stand out from so small a part, or nothing
    each = squares[rank:].sum() / ((short.shape[0] - rank) * (short.shape[1] - rank))
    limit = _IN_SINGLES if part.middle.dtype == np.float64 else _ROUNDED_TWICE
    if each > limit * rounding.mean() or not _pays(squares[:rank], rounding, each, short.size, shape):
        return None
    return noise


def edge(rounding: float, rows: int, columns: int) -> float:
    """The singular value that stands out from numbers that rounding put off by this square on average."""
    return float(_ABOVE_NOISE * np.sqrt(rounding) * (np.sqrt(rows) + np.sqrt(columns)))


def _raised(squares: _Doubles, rounding: float, columns: int) -> float:
    """The smallest third of the squared singular values, in terms of that of rounding alone."""
    first = 2 * squares.size // 3
    return float(squares[first:].sum() / (rounding * _smallest_third(squares.size, columns)))


@lru_cache(maxsize=16)
def _smallest_third(rows: int, columns: int) -> float:
    """What the smallest third of the squared singular values of noise add up to."""
    noise = np.random.default_rng(0).standard_normal((rows, columns))
    return float(np.linalg.eigvalsh(noise @ noise.T)[: rows - 2 * rows // 3].sum())


def _pays(large: _Doubles, rounding: _Doubles, each: float, size: int, shape: tuple[int, int]) -> bool:
    """Whether knowing what stands out seems to save more bits of each number than the factors take."""
    left = rounding + max(each - float(rounding.mean()), 0.0)
    known = max(float(large.sum()) / size - large.size * each / min(shape), 0.0)
    saved = float(np.log2((left + known) / left).mean()) / 2
    return bool(saved > _SURELY * _FACTOR_BITS * large.size * sum(shape) / (shape[0] * shape[1]))
