"""From one kind of float to another: the nearest value, ties to even, whatever a processor does with denormals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.cases import odd_floats
from shardflow.codec.rounding import is_ordinary, multiplied, narrowed, widened, without_smallest
from shardflow.dtype import DType

NARROW = (DType.BF16, DType.F16, DType.F8_E4M3, DType.F8_E5M2)
SATURATING = {DType.F8_E4M3: 0x7E, DType.F8_E5M2: 0x7B}
every_narrow = pytest.mark.parametrize("dtype", NARROW, ids=lambda dtype: dtype.name)
singles = st.integers(0, 2**32 - 1)


def value(word: int, dtype: DType) -> Fraction | None:
    """The value of a word in plain arithmetic; None for infinities and NaNs."""
    bits, exponent_bits = 8 * dtype.width, dtype.exponent_bits
    mantissa_bits = bits - 1 - exponent_bits
    exponent = word >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa = word & (1 << mantissa_bits) - 1
    last = exponent == (1 << exponent_bits) - 1
    if last and (dtype is not DType.F8_E4M3 or mantissa == (1 << mantissa_bits) - 1):
        return None
    bias = (1 << exponent_bits - 1) - 1
    whole = mantissa + ((1 << mantissa_bits) if exponent else 0)
    size = whole * Fraction(2) ** (max(exponent, 1) - bias - mantissa_bits)
    return -size if word >> bits - 1 else size


def bits_of(*values: float) -> np.ndarray:
    return np.array(values, "<f4").view("<u4")


@every_narrow
def test_every_narrow_value_is_widened_exactly(dtype: DType) -> None:
    words = np.arange(1 << 8 * dtype.width).astype(f"<u{dtype.width}")
    wide = widened(words, dtype)
    for word in [*range(0, words.size, 97), *odd_floats(dtype)]:
        expected, got = value(word, dtype), np.uint32(wide[word]).view("<f4")
        if expected is None:
            assert not np.isfinite(got)
        else:
            assert Fraction(float(got)) == expected
            assert int(wide[word]) >> 31 == word >> 8 * dtype.width - 1


@every_narrow
def test_what_was_widened_is_narrowed_to_itself(dtype: DType) -> None:
    words = np.arange(1 << 8 * dtype.width).astype(f"<u{dtype.width}")
    wide = widened(words, dtype)
    same = ~np.isnan(wide.view("<f4"))
    if dtype is DType.F8_E4M3:
        assert same.sum() == 254
    assert (narrowed(wide, dtype)[same] == words[same]).all()


@every_narrow
@given(data=st.data())
def test_the_nearest_value_is_taken_and_of_two_the_even_one(dtype: DType, data: st.DataObject) -> None:
    largest = SATURATING.get(dtype, ((1 << dtype.exponent_bits) - 1 << 8 * dtype.width - 1 - dtype.exponent_bits) - 1)
    near = widened(np.array([data.draw(st.integers(0, largest))], f"<u{dtype.width}"), dtype)[0]
    drawn = st.one_of(singles, st.integers(-70_000, 70_000).map(lambda away: (int(near) + away) % 2**32))
    bits = data.draw(drawn)
    wanted = value(bits, DType.F32)
    (word,) = narrowed(np.array([bits], "<u4"), dtype).tolist()
    got = value(word, dtype)
    if wanted is None or got is None:
        overflown = wanted is None or abs(wanted) > value(largest, dtype)
        assert overflown
        return
    assert word >> 8 * dtype.width - 1 == bits >> 31
    magnitude = word & (1 << 8 * dtype.width - 1) - 1
    for other in (magnitude - 1, magnitude + 1):
        if 0 <= other <= largest:
            distances = abs(abs(wanted) - abs(got)), abs(abs(wanted) - value(other, dtype))
            assert distances[0] < distances[1] or (distances[0] == distances[1] and magnitude % 2 == 0)


@pytest.mark.parametrize("dtype", SATURATING, ids=lambda dtype: dtype.name)
def test_a_float8_holds_on_to_its_largest_value(dtype: DType) -> None:
    most = SATURATING[dtype]
    assert narrowed(bits_of(1e30, -1e30), dtype).tolist() == [most, most | 0x80]
    infinite = narrowed(bits_of(np.inf, -np.inf), dtype).tolist()
    assert infinite == ([0x7C, 0xFC] if dtype is DType.F8_E5M2 else [0x7E, 0xFE])
    assert narrowed(bits_of(np.nan), dtype).tolist() == [0x7F]


def test_wider_floats_overflow_to_infinity_and_keep_a_nan_one() -> None:
    assert narrowed(bits_of(65520.0, 65519.9, -1e6), DType.F16).tolist() == [0x7C00, 0x7BFF, 0xFC00]
    assert narrowed(bits_of(3.4e38, -3.4e38), DType.BF16).tolist() == [0x7F80, 0xFF80]
    nans = np.array([0x7F800001, 0xFF800001, 0x7FC12345], "<u4")
    for dtype in (DType.F16, DType.BF16):
        words = narrowed(nans, dtype)
        assert np.isnan(widened(words, dtype).view("<f4")).all()
        assert (words >> 15).tolist() == [0, 1, 0]


def test_float64_goes_to_the_nearest_float32_and_back() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(5000) * np.exp(rng.standard_normal(5000) * 20)
    assert (widened(values.view("<u8"), DType.F64).view("<f4") == values.astype("<f4")).all()
    back = narrowed(values.astype("<f4").view("<u4"), DType.F64)
    assert (back.view("<f8") == values.astype("<f4").astype("<f8")).all()


def test_nans_of_float64_are_the_same_everywhere() -> None:
    nans = np.array([0x7FF0000000000001, 0xFFF8000000000123], "<u8")
    assert widened(nans, DType.F64).tolist() == [0x7FC00000, 0xFFC00000]
    nans = np.array([0x7F800001, 0xFFC00123], "<u4")
    assert narrowed(nans, DType.F64).tolist() == [0x7FF8000000000000, 0xFFF8000000000000]


@given(bits=st.lists(singles, min_size=1, max_size=20))
def test_the_smallest_values_are_zero_before_and_after_a_product(bits: list[int]) -> None:
    words = np.array(bits, "<u4")
    kept = without_smallest(words)
    tiny = words & 0x7FFFFFFF < 2 << 23
    assert (kept[~tiny] == words[~tiny]).all()
    assert (kept[tiny] == words[tiny] & 0x80000000).all()
    for by, times in ((0.5, 1), (0.5, 3), (1.5, 2), (-0.75, 5)):
        products = multiplied(words, np.array([by], "<f4"), times)
        assert (is_ordinary(products) | (products & 0x7FFFFFFF == 0) | (products & 0x7F800000 == 0x7F800000)).all()


@given(bits=st.lists(singles, min_size=1, max_size=20), by=st.floats(2.0**-40, 2.0**40, width=32))
def test_repeated_products_are_those_of_one_product_at_a_time(bits: list[int], by: float) -> None:
    words, multiplier = np.array(bits, "<u4"), np.array([by], "<f4")
    one_by_one = words
    for _ in range(7):
        one_by_one = multiplied(one_by_one, multiplier)
    assert multiplied(words, multiplier, 7).tolist() == one_by_one.tolist()
    each = np.resize(np.array([by, -by, 1.0], "<f4"), words.size)
    expected = [int(multiplied(words[i : i + 1], each[i : i + 1])[0]) for i in range(words.size)]
    assert multiplied(words, each).tolist() == expected


def test_a_product_is_rounded_as_float32_is() -> None:
    rng = np.random.default_rng(1)
    factors = rng.standard_normal(1000).astype("<f4")
    exact = factors.astype("<f8") * np.float64(np.float32(0.99999))
    assert (multiplied(factors.view("<u4"), np.array([0.99999], "<f4")).view("<f4") == exact.astype("<f4")).all()
    special = bits_of(np.inf, -np.inf, 0.0, -0.0)
    assert multiplied(special, np.array([0.5], "<f4")).tolist() == special.tolist()
