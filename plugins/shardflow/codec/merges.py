"""The lowrank codec: a matrix predicted to be its base changed by factors, rounded as merging an adapter rounds.

An adapter of low rank that was merged into a matrix changed nearly every number of it, and yet by very little: two thin
matrices say it all, but for the rounding of the sum.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import predicted
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import CodecId, flat
from shardflow.codec.factors import joined, read_factors, wrong_with
from shardflow.codec.numbers import Number, number_of
from shardflow.codec.rounding import added, from_doubles, narrowed, widened
from shardflow.codec.runs import RunReader
from shardflow.dtype import DType
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.codec.factors import Doubles
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.rounding import Bits

DTYPES = frozenset({DType.F32, DType.F16, DType.BF16})
MOST_BASES = 64

_HEADER = struct.Struct("<BBQ")  # dtype, whether the change is rounded by itself, words of the matrix before the chunk
_AT_ONCE = 64 << 10  # words, so that they stay near the processor


@dataclass(frozen=True, slots=True)
class _Merged:
    base: memoryview
    dtype: DType
    left: Doubles
    right: Doubles
    exponent: int
    first: int
    change_is_rounded: bool

    @property
    def codec(self) -> CodecId:
        return CodecId.LOWRANK

    @property
    def number(self) -> Number:
        return number_of(self.dtype)

    @property
    def size(self) -> int:
        return len(self.base)

    def header(self) -> bytes:
        return _HEADER.pack(self.dtype.code, self.change_is_rounded, self.first)

    def words(self, first: int, count: int) -> Words:
        number = self.number
        base = np.frombuffer(self.base, number.dtype, count, first * number.width)
        out: Words = scratch("merged", count * number.width).view(number.dtype)
        begin, columns = self.first + first, self.right.shape[1]
        rows_at_once, end_row = max(1, _AT_ONCE // columns), -(-(begin + count) // columns)
        for row in range(begin // columns, end_row, rows_at_once):
            products = (self.left[row : min(row + rows_at_once, end_row)] @ self.right).ravel()
            start = max(row * columns, begin)
            end = min(row * columns + products.size, begin + count)
            part = slice(start - begin, end - begin)
            change = from_doubles(products[start - row * columns : end - row * columns], self.exponent)
            out[part] = changed(base[part], change, self.dtype, self.change_is_rounded)
        return out


def changed(base: Words, change: Bits, dtype: DType, change_is_rounded: bool) -> Words:
    """The sums of `base` and a `change`, rounded to the dtype; and the change before, if that is asked for."""
    if change_is_rounded:
        change = widened(narrowed(change, dtype), dtype)
    sums = narrowed(added(widened(base, dtype), change), dtype)
    untouched = change << 1 == 0  # zeros of both signs
    return np.where(untouched, base, sums) if untouched.any() else sums


def merged(base: Buffer, dtype: DType, factors: Sequence[Buffer], first: int = 0) -> list[predicted.Prediction]:
    """That a chunk is its base, changed as the chunks of `factors` say: one prediction for each way to round.

    `first` is how many words of the matrix lie before the chunk. The bases are the base and then the factors.
    """
    if dtype not in DTYPES:
        raise ValueError(f"nothing is merged into matrices of {dtype.name} here")
    wide = _prediction(flat(base), dtype, [flat(chunk) for chunk in factors], first)
    return [wide] if dtype is DType.F32 else [wide, replace(wide, change_is_rounded=True)]  # in float32, they are one


def _prediction(base: memoryview, dtype: DType, chunks: Sequence[memoryview], first: int) -> _Merged:
    factors = joined([read_factors(chunk) for chunk in chunks])
    end = first + len(base) // dtype.width
    wrong = wrong_with(factors)
    if end > factors.rows * factors.columns:
        wrong = f"a matrix of {factors.rows} x {factors.columns} has no words up to {end}"
    if wrong:
        raise ValueError(wrong)
    return _Merged(base, dtype, *factors.as_doubles(), min(factors.exponents), first, change_is_rounded=False)


def decode(stored: memoryview, out: memoryview, bases: Sequence[memoryview]) -> None:
    """Fill `out` from its base, the factors and how it differs from what they make."""
    if not 1 < len(bases) <= MOST_BASES or len(bases[0]) != len(out):
        sizes = [len(base) for base in bases]
        raise CorruptData(
            f"{len(out)} bytes need a base as long and 1 to {MOST_BASES - 1} chunks of factors, not {sizes}"
        )
    reader = RunReader(stored)
    code, rounded, first = _HEADER.unpack(reader.take(_HEADER.size))
    dtypes = {dtype.code: dtype for dtype in DTYPES}
    if code not in dtypes or rounded > 1:
        raise CorruptData(f"a merge into dtype {code}, rounded in way {rounded}, is not known here")
    try:
        prediction = _prediction(bases[0], dtypes[code], bases[1:], first)
    except ValueError as error:
        raise CorruptData(str(error)) from None
    predicted.decode(reader, replace(prediction, change_is_rounded=bool(rounded)), out)
