"""From one kind of float to another, the same bits on every machine.

Everything goes by way of float32. Where a processor may be set to treat the smallest numbers as zero, as some libraries
set it for the whole process, they are zero here in any case: a prediction may be off, but never different elsewhere.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardflow.codec.kernels.contract import Words

Bits = npt.NDArray[np.uint32]
Singles = npt.NDArray[np.float32]
_Any = npt.NDArray[Any]

FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2})

_SIGN, _INFINITY = np.uint32(1 << 31), np.uint32(255 << 23)
_SMALLEST = np.uint32(2 << 23)  # magnitudes below it are those that a processor may round to zero


def widened(words: Words, dtype: DType) -> Bits:
    """The bits of each value as a float32: the same value, or for float64 the nearest one."""
    if dtype is DType.F32:
        return words
    if dtype is DType.BF16:
        return np.left_shift(words, 16, dtype=np.uint32)
    if dtype is DType.F64:
        return _from_float64(words)
    return _values_of(dtype)[words]


def narrowed(bits: Bits, dtype: DType) -> Words:
    """The words of the nearest values, ties to even; what is too large for a float8 becomes its largest value."""
    if dtype is DType.F32:
        return bits
    if dtype is DType.BF16:
        rounded = (bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))) >> 16
        return _unless(_is_nan(bits), lambda: bits >> 16 | 0x40, rounded).astype("<u2")
    if dtype is DType.F16:
        return _as_float16(bits)
    if dtype is DType.F64:
        return _as_float64(bits)
    # A float8 is decided by the upper half of the bits, if its last bit says whether anything follows.
    nearest: Words = _nearest_of(dtype)[bits >> 16 | (bits & 0xFFFF != 0)]
    return nearest


def _from_float64(words: Words) -> Bits:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = words.view("<f8").astype("<f4").view("<u4")
    sign, is_nan = (words >> 32).astype("<u4") & _SIGN, words << 1 > 0x7FF << 53
    return _unless(is_nan, lambda: sign | 0x7FC00000, without_smallest(nearest))


def _as_float64(bits: Bits) -> Words:
    with np.errstate(invalid="ignore"):
        same = without_smallest(bits).view("<f4").astype("<f8").view("<u8")
    sign = np.left_shift(bits & _SIGN, 32, dtype=np.uint64)
    return _unless(_is_nan(bits), lambda: sign | 0x7FF8 << 48, same)


def without_smallest(bits: Bits) -> Bits:
    """Zeros of the same sign for the smallest values, and the others as they are."""
    return _unless(bits & ~_SIGN < _SMALLEST, lambda: bits & _SIGN, bits)


def multiplied(bits: Bits, by: Singles, times: int = 1) -> Bits:
    """Products in float32, each rounded; those of infinities and NaNs are the factor in `bits`."""
    before = without_smallest(bits)
    values = before.view("<f4").copy()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for _ in range(times):
            np.multiply(values, by, out=values)
    after = values.view("<u4")
    # Magnitudes only grow or only shrink, so what is ordinary at last always was.
    doubtful = np.flatnonzero(~is_ordinary(after) & (before & ~_SIGN != 0))
    if doubtful.size:
        factors = by[doubtful] if by.size > 1 else by
        after[doubtful] = _multiplied_one_by_one(before[doubtful], factors, times)
    return after


def _multiplied_one_by_one(bits: Bits, by: Singles, times: int) -> Bits:
    for _ in range(times):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            products = without_smallest((bits.view("<f4") * by).view("<u4"))
        bits = np.where(bits & _INFINITY == _INFINITY, bits, products)
    return bits


def added(first: Bits, second: Bits) -> Bits:
    """Sums in float32, the smallest values left out; with infinities and NaNs in `first`, those."""
    terms = without_smallest(first).view("<f4"), without_smallest(second).view("<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add(*terms).view("<u4")
    return _unless(first & _INFINITY == _INFINITY, lambda: first, without_smallest(sums))


def from_doubles(values: npt.NDArray[np.float64], exponent: int) -> Bits:
    """The float32 nearest to finite values times two to the power of `exponent`, the smallest left out."""
    with np.errstate(over="ignore", under="ignore"):
        return without_smallest((values * 2.0**exponent).astype("<f4").view("<u4"))


def is_ordinary(bits: Bits) -> npt.NDArray[np.bool_]:
    """Neither zero nor infinite nor NaN, nor so small that a processor may round it to zero."""
    magnitudes = bits & ~_SIGN
    return (magnitudes >= _SMALLEST) & (magnitudes < _INFINITY)


def _unless(rare: _Any, then: Callable[[], _Any], usual: _Any) -> _Any:
    """`usual`, but `then` where something rare is so; that it is nowhere so is quickly seen."""
    return np.where(rare, then(), usual) if rare.any() else usual


def _is_nan(bits: Bits) -> npt.NDArray[np.bool_]:
    return bits & ~_SIGN > _INFINITY


def _as_float16(bits: Bits) -> Words:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        halves = bits.view("<f4").astype("<f2").view("<u2")
    return _unless(_is_nan(bits), lambda: bits >> 16 & 0x8000 | 0x7E00 | bits >> 13 & 0x1FF, halves).astype("<u2")


@cache
def _values_of(dtype: DType) -> Bits:
    """The bits as float32 of every value of a type of at most 16 bits."""
    bits, exponent = 8 * dtype.width, dtype.exponent_bits
    mantissa = bits - 1 - exponent
    words = np.arange(1 << bits, dtype="<u4")
    sign, magnitude = words >> bits - 1 << 31, words & (1 << bits - 1) - 1
    bias = (1 << exponent - 1) - 1
    normal = (magnitude << 23 - mantissa) + (127 - bias << 23)
    tiny = np.ldexp(magnitude.astype("<f4"), 1 - bias - mantissa).view("<u4")
    special = _INFINITY | magnitude << 23 - mantissa & (1 << 23) - 1
    first_special = (1 << bits - 1) - 1 if dtype is DType.F8_E4M3 else (1 << exponent) - 1 << mantissa
    values = np.where(magnitude >> mantissa == 0, tiny, np.where(magnitude >= first_special, special, normal))
    return (sign | values).astype("<u4")


@cache
def _nearest_of(dtype: DType) -> npt.NDArray[np.uint8]:
    """The nearest float8 for every upper half of a float32 whose last bit stands for all that follows."""
    largest = 0x7E if dtype is DType.F8_E4M3 else 0x7B
    values = _values_of(dtype)[: largest + 1].view("<f4").astype(np.float64)
    middles = (values[1:] + values[:-1]) / 2
    halves = np.arange(_INFINITY >> 16, dtype="<u4") << 16
    wanted = halves.view("<f4").astype(np.float64)
    nearest = np.searchsorted(middles, wanted)
    nearest += np.isin(wanted, middles) & (nearest % 2 == 1)  # ties go to even
    special = np.full((1 << 15) - nearest.size, 0x7F)
    special[0] = 0x7C if dtype is DType.F8_E5M2 else largest
    nearest = np.concatenate([nearest, special])
    return np.concatenate([nearest, nearest | 0x80]).astype(np.uint8)
