"""Real factors become whole numbers: as coarse as they may be before what they no longer predict costs more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shardflow.codec.factors import EXACT, EXPONENTS, Factors, largest_sum
from shardflow.codec.fitting.bounds import changes
from shardflow.codec.merges import changed
from shardflow.codec.rounding import from_doubles

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.dtype import DType

_FINENESS = range(2, 14)  # halvings of the rounding of the matrix that come into question for that of the product
_COARSEST = -40  # where even that is too fine for an exact product

_Doubles = npt.NDArray[np.float64]


class Sample(NamedTuple):
    """Some rows of a matrix before and after, and how the change was rounded."""

    rows: npt.NDArray[np.int64]
    base: Words
    words: Words
    dtype: DType
    change_is_rounded: bool

    def missed(self, change: _Doubles) -> float:
        """The share of numbers that this change of the rows does not lead to."""
        expected = changed(self.base, from_doubles(change, 0), self.dtype, self.change_is_rounded)
        return float((expected != self.words).mean())


def quantised(left: npt.NDArray[Any], right: npt.NDArray[Any], sample: Sample, finer: int = 0) -> Factors | None:
    """Whole numbers for `left` (rows, rank) and `right` (rank, columns), which cost least together with what they miss.

    They are made `finer` by so many bits than that, and coarser where the product would not be exact.
    """
    left, right = _balanced(left.astype(np.float64), right.astype(np.float64))
    usual = float(np.median(changes(sample.words, sample.base, sample.dtype, change_is_rounded=False).reach))
    if not 0 < usual < np.inf:
        return None
    cheapest = min(_FINENESS, key=lambda fineness: _cost(left, right, usual * 2.0**-fineness, sample))
    for fineness in range(cheapest + finer, _COARSEST, -1):
        factors = _rounded(left, right, usual * 2.0**-fineness)
        if factors and largest_sum(factors) < 0.999 * EXACT:
            return factors
    return None


def _balanced(left: _Doubles, right: _Doubles) -> tuple[_Doubles, _Doubles]:
    """The same product of factors whose parts stand at right angles, and share their size."""
    (tall, inner_left), (wide, inner_right) = np.linalg.qr(left), np.linalg.qr(right.T)
    turn, sizes, back = np.linalg.svd(inner_left @ inner_right.T)
    shares = np.sqrt(sizes)
    return tall @ (turn * shares), (shares[:, None] * back) @ wide.T


def _rounded(left: _Doubles, right: _Doubles, error: float) -> Factors | None:
    """Factors whose product is off by about `error`, or None where it has no use for a factor or no room."""
    rank = right.shape[0]
    each = error / np.sqrt(2 * rank)  # what rounding one part of one factor may add
    with np.errstate(divide="ignore", over="ignore"):
        for_left = np.floor(np.log2(each / np.sqrt((right**2).mean(axis=1))))
        for_right = np.floor(np.log2(each / np.sqrt((left**2).mean(axis=0))))
        exponents = for_left + for_right
        lefts, rights = np.rint(left / np.exp2(for_left)).T, np.rint(right / np.exp2(for_right)[:, None])
    used = np.isfinite(exponents) & lefts.any(axis=1) & rights.any(axis=1)
    lefts, rights, exponents = lefts[used], rights[used], exponents[used]
    if not used.any() or max(np.abs(lefts).max(), np.abs(rights).max()) >= 1 << 31:
        return None
    if exponents.min() not in EXPONENTS or exponents.max() not in EXPONENTS:
        return None
    return Factors(lefts.astype(np.int32), rights.astype(np.int32), tuple(int(exponent) for exponent in exponents))


def _cost(left: _Doubles, right: _Doubles, error: float, sample: Sample) -> float:
    """About the bits that the factors take, and those that correct what they miss."""
    factors = _rounded(left, right, error)
    if not factors:
        return np.inf
    numbers = [side[k] for side in (factors.left, factors.right) for k in range(factors.rank)]
    bits = sum(each.size * max(np.log2(each.std() + 1e-9) + 2.05, 0.2) for each in numbers)
    lefts, rights = factors.as_doubles()
    change = (lefts[sample.rows] @ rights) * 2.0 ** min(factors.exponents)
    missed = sample.missed(change)
    share = min(max(missed, 1e-9), 0.5)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    return float(bits + left.shape[0] * right.shape[1] * (entropy + 2 * missed))
