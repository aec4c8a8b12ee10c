"""Both kernel sets set and find the same flags, for any number of words, and check what they are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.cases import noise, using
from shardflow.codec.kernels import flag_kernels_for
from shardflow.codec.kernels.flag_arrays import ArrayFlagKernels
from shardflow.codec.kernels.flags import FlagKernels, Flags, flags_for
from shardflow.codec.kernels.fused_flags import FusedFlagKernels
from shardflow.codec.numbers import EVERY_NUMBER, Number, number_of
from shardflow.dtype import DType

SETS = (ArrayFlagKernels(), FusedFlagKernels())
NUMBERS = sorted(EVERY_NUMBER, key=lambda number: (number.width, number.mantissa))
every_number = pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number.width}-{number.mantissa}")
every_set = pytest.mark.parametrize("kernels", SETS, ids=["numpy", "numba"])
COUNTS = (0, 1, 63, 64, 65, 128, 1000)


def flags_of(count: int) -> Flags:
    return np.full(flags_for(count), 2**64 - 1, "<u8")


def set_flags(flags: Flags) -> list[int]:
    return np.flatnonzero(np.unpackbits(flags.view("u1"), bitorder="little")).tolist()


@every_set
@every_number
def test_words_that_differ_are_flagged(number: Number, kernels: FlagKernels) -> None:
    for count in COUNTS:
        words = np.frombuffer(noise(count * number.width), number.dtype)
        others = words.copy()
        changed = list(range(0, count, 7))
        others[changed] ^= 1 << 8 * number.width - 1
        out = flags_of(count)
        kernels.unequal(words, others, out)
        assert set_flags(out) == changed


@every_set
@every_number
def test_exponents_below_an_edge_are_flagged(number: Number, kernels: FlagKernels) -> None:
    for count in COUNTS:
        words = np.frombuffer(noise(count * number.width, count), number.dtype)
        for edge in {0, 1, number.exponents // 2, number.exponents, number.exponents + 1}:
            out = flags_of(count)
            kernels.below(words, number, edge, out)
            exponents = [int(word) >> number.mantissa & number.exponents for word in words]
            assert set_flags(out) == [at for at, exponent in enumerate(exponents) if exponent < edge]


@every_set
@given(numbers=st.lists(st.one_of(st.just(0), st.just(2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20))
def test_the_places_of_flags_are_found(kernels: FlagKernels, numbers: list[int]) -> None:
    flags = np.array(numbers, "<u8")
    assert kernels.places(flags).tolist() == set_flags(flags)


@every_set
@given(gaps=st.lists(st.integers(0, 200), max_size=60))
def test_flags_behind_gaps_are_set_and_no_others(kernels: FlagKernels, gaps: list[int]) -> None:
    places = [sum(gaps[: n + 1]) + n for n in range(len(gaps))]
    end = places[-1] + 1 if places else 0
    for count in (end, end + 100):
        out = flags_of(count)
        assert kernels.marked(np.array(gaps, "<u4"), out) == end - 1
        assert set_flags(out) == places


@every_set
def test_a_gap_that_leads_beyond_all_flags_is_told(kernels: FlagKernels) -> None:
    for gaps in ([64], [10, 2**32 - 1, 5], [0] * 65, [63, 0]):
        assert kernels.marked(np.array(gaps, "<u4"), flags_of(64)) >= 64


@every_set
def test_words_at_odd_addresses_are_looked_at(kernels: FlagKernels) -> None:
    words = np.frombuffer(noise(2001)[1:], "<u2")
    out = flags_of(words.size)
    kernels.unequal(words, words[::-1].copy(), out)
    assert set_flags(out) == np.flatnonzero(words != words[::-1]).tolist()


@every_set
def test_arrays_that_do_not_fit_are_refused_before_any_loop(kernels: FlagKernels) -> None:
    words, number = np.zeros(65, "<u2"), number_of(DType.BF16)
    right, short = flags_of(65), flags_of(64)
    for others, out in ((words[1:], right), (words.astype("<u4"), right), (words, short), (words, right.view("<u4"))):
        with pytest.raises(ValueError, match=r"do not fit|are not as many"):
            kernels.unequal(words, others, out)
    for given_words, edge, out in ((words, 257, right), (words, -1, right), (words.view("u1"), 5, right)):
        with pytest.raises(ValueError, match=r"do not fit|does not fit"):
            kernels.below(given_words, number, edge, out)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.below(words, number, 5, short)


def test_the_environment_settles_which_set_serves() -> None:
    with using("numpy"):
        assert isinstance(flag_kernels_for(1 << 30), ArrayFlagKernels)
    with using("numba"):
        assert isinstance(flag_kernels_for(1), FusedFlagKernels)
