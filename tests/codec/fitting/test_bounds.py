"""What a rounded sum says about its terms is the same whether it is looked up or worked out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from codec.adapters import as_values
from shardflow.codec.fitting.bounds import changes
from shardflow.dtype import DType


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16], ids=lambda dtype: dtype.name)
def test_every_word_says_within_which_bounds_its_sum_was(dtype: DType) -> None:
    words = np.arange(1 << 16, dtype="<u2")
    found = changes(words.reshape(256, 256), np.zeros((256, 256), "<u2"), dtype, change_is_rounded=False)
    middle, reach = (each.ravel() for each in found)
    values = as_values(words, dtype)
    for word in np.random.default_rng(0).integers(2, 0x3800, 300):
        below, here, above = (Fraction(float(values[word + step])) for step in (-1, 0, 1))
        expected = (below + 2 * here + above) / 4
        if reach[word] < np.inf:
            assert float(middle[word]) == pytest.approx(float(expected), rel=1e-6)
            assert float(reach[word]) == pytest.approx(float((above - below) / 4), rel=1e-6)
            assert middle[word | 0x8000] == -middle[word]


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16, DType.F32], ids=lambda dtype: dtype.name)
def test_infinities_and_nans_say_nothing(dtype: DType) -> None:
    infinity = (1 << dtype.exponent_bits) - 1 << 8 * dtype.width - 1 - dtype.exponent_bits
    odd = np.array([[infinity, infinity + 1, infinity | 1 << 8 * dtype.width - 1]], f"<u{dtype.width}")
    one = np.full_like(odd, infinity >> 1)
    for words, base in ((odd, one), (one, odd), (odd, odd)):
        found = changes(words, base, dtype, change_is_rounded=True)
        assert (found.middle == 0).all()
        assert np.isinf(found.reach).all()


def test_a_change_that_was_rounded_itself_may_lie_farther_off() -> None:
    base, words = np.full((1, 1), 0x3C00, "<u2"), np.full((1, 1), 0x3F80, "<u2")
    near, far = (changes(words, base, DType.BF16, rounded).reach[0, 0] for rounded in (False, True))
    assert far == pytest.approx(near + abs(1 - 2.0**-7) * 2.0**-8, rel=1e-2)
