"""Both kernel sets step, sort and clip as the format says, give each other's results, and check what they are given."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.cases import odd_floats, using
from shardflow.codec.kernels import step_kernels_for
from shardflow.codec.kernels.fused_steps import FusedStepKernels
from shardflow.codec.kernels.step_arrays import ArrayStepKernels
from shardflow.codec.kernels.steps import StepKernels
from shardflow.codec.numbers import EVERY_NUMBER, Number, number_of
from shardflow.dtype import DType

SETS = (ArrayStepKernels(), FusedStepKernels())
NUMBERS = sorted(EVERY_NUMBER, key=lambda number: (number.width, number.mantissa))
every_number = pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number.width}-{number.mantissa}")
every_set = pytest.mark.parametrize("kernels", SETS, ids=["numpy", "numba"])
numbers_with_low_bits = st.sampled_from(NUMBERS).flatmap(
    lambda number: st.integers(0, number.most_low).map(lambda low: replace(number, low=low))
)


def place(word: int, number: Number) -> int:
    """Where a word stands in the order of the values, as the format describes it."""
    bits = 8 * number.width - number.low
    kept = word >> number.low
    magnitude, sign = kept % (1 << bits - 1), kept >> bits - 1
    if number.mantissa:
        return -1 - magnitude if sign else magnitude
    return kept


def step(word: int, start: int, number: Number) -> int:
    bits = 8 * number.width - number.low
    way = (place(word, number) - place(start, number)) % (1 << bits)
    way -= (1 << bits) if way >> bits - 1 else 0
    return 2 * way if way >= 0 else -2 * way - 1


@given(number=numbers_with_low_bits, data=st.binary(max_size=320))
def test_steps_are_as_defined_and_lead_back(number: Number, data: bytes) -> None:
    words = np.frombuffer(data, number.dtype, len(data) // number.width) >> number.low << number.low
    starts = words[::-1].copy()
    expected = [step(int(word), int(start), number) for word, start in zip(words, starts, strict=True)]
    for kernels in SETS:
        steps, back = np.empty_like(words), np.empty_like(words)
        kernels.steps(words, starts, number, steps)
        assert steps.tolist() == expected
        kernels.walked(steps, starts, number, back)
        assert back.tolist() == words.tolist()


@every_set
def test_a_float_is_one_step_from_the_next_value_of_its_type(kernels: StepKernels) -> None:
    values = np.array([0.0, 1.0, 1.9999999, 2.0, 65504.0, 1e-42], "<f4")
    up = np.nextafter(values, np.float32(np.inf), dtype="<f4")
    for words, starts, expected in ((up, values, 2), (values, up, 1), (-up, -values, 1), (-values, -up, 2)):
        steps = np.empty(values.size, "<u4")
        kernels.steps(words.view("<u4"), starts.view("<u4"), number_of(DType.F32), steps)
        assert steps.tolist() == [expected] * values.size


@every_set
def test_zeros_of_both_signs_are_neighbours_and_not_the_same(kernels: StepKernels) -> None:
    zeros = np.array([0x8000, 0x0000], "<u2")
    steps = np.empty(2, "<u2")
    kernels.steps(zeros, zeros[::-1].copy(), number_of(DType.BF16), steps)
    assert steps.tolist() == [1, 2]


@every_number
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 1002, 1003])
def test_both_sets_sort_into_classes_and_back(number: Number, count: int) -> None:
    rng = np.random.default_rng(number.mantissa)
    words = np.frombuffer(rng.bytes(count * number.width), number.dtype)
    values = np.frombuffer(rng.bytes(count * number.width), number.dtype)
    table = rng.integers(0, 7, number.exponents + 1).astype("u1")
    exponents = (words >> number.mantissa) & number.exponents
    expected = np.concatenate([values[table[exponents] == group] for group in range(7)])
    for kernels in SETS:
        grouping = kernels.grouped(words, number, table, 7)
        for half, part in zip(grouping.halves, (exponents[: count // 2], exponents[count // 2 :]), strict=True):
            assert half.tolist() == np.bincount(table[part], minlength=7).tolist()
        assert grouping.counts.tolist() == np.bincount(table[exponents], minlength=7).tolist()
        together, back = np.empty_like(values), np.empty_like(values)
        kernels.by_class(values, grouping, together)
        assert (together == expected).all()
        kernels.in_place(together, grouping, back)
        assert (back == values).all()


@every_set
@given(values=st.lists(st.integers(0, 2**16 - 1), max_size=80), most=st.sampled_from([1, 3, 15, 255]))
def test_clipping_parts_values_and_joins_them(kernels: StepKernels, values: list[int], most: int) -> None:
    words = np.array(values, "<u2")
    clipped, rest = np.empty(words.size, "u1"), np.zeros(1 + words.size, "<u2")
    beyond = kernels.clip(words, most, clipped, rest[1:])
    assert clipped.tolist() == [min(value, most) for value in values]
    assert rest[1 : 1 + beyond].tolist() == [value - most for value in values if value >= most]
    back = np.empty_like(words)
    kernels.unclip(clipped, most, rest[: 1 + beyond], back)
    assert back.tolist() == values


@every_set
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_the_rest_may_take_the_place_of_what_is_clipped(kernels: StepKernels, width: int) -> None:
    words = np.random.default_rng(width).integers(0, 9, 1000).astype(f"<u{width}")
    original, clipped = words.copy(), np.empty(words.size, "u1")
    beyond = kernels.clip(words, 3, clipped, words)
    assert words[:beyond].tolist() == [value - 3 for value in original.tolist() if value >= 3]


@every_set
@every_number
def test_arrays_that_do_not_fit_are_refused_before_any_loop(number: Number, kernels: StepKernels) -> None:
    words, short = np.zeros(9, number.dtype), np.zeros(8, number.dtype)
    other = np.zeros(9, f"<u{3 - number.width if number.width < 3 else 2}")
    table = np.zeros(number.exponents + 1, "u1")
    grouping = kernels.grouped(words, number, table, 1)
    for arrays in ((short, words, words), (words, short, words), (words, words, short), (words, words, other)):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.steps(arrays[0], arrays[1], number, arrays[2])
        with pytest.raises(ValueError, match="do not fit"):
            kernels.walked(arrays[0], arrays[1], number, arrays[2])
    for values, out in ((short, words), (words, short), (words, other)):
        for move in (kernels.by_class, kernels.in_place):
            with pytest.raises(ValueError, match="do not fit"):
                move(values, grouping, out)
    for given_words, given_table, classes in ((other, table, 1), (words, table[1:], 1), (words, table + 5, 5)):
        with pytest.raises(ValueError, match="does not fit"):
            kernels.grouped(given_words, number, given_table.astype("u1"), classes)


@every_set
def test_a_rest_that_cannot_be_is_refused(kernels: StepKernels) -> None:
    clipped, out = np.array([3, 0, 3], "u1"), np.empty(3, "<u2")
    kernels.unclip(clipped, 3, np.array([0, 5, 6], "<u2"), out)
    assert out.tolist() == [8, 0, 9]
    for rest in ([0, 5], [], [7, 5, 6]):
        with pytest.raises(ValueError, match=r"do not fit|begins with"):
            kernels.unclip(clipped, 3, np.array(rest, "<u2"), out)
    for most in (0, 256, -1):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.clip(out, most, clipped, np.empty(3, "<u2"))
    with pytest.raises(ValueError, match="do not fit"):
        kernels.clip(out, 3, clipped, np.empty(2, "<u2"))


def test_odd_values_of_every_float_have_places_of_their_own() -> None:
    for dtype in (DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2):
        patterns = odd_floats(dtype)
        number = number_of(dtype)
        assert len({place(pattern, number) for pattern in patterns}) == len(set(patterns))
    floats = struct.unpack("<4I", struct.pack("<4f", -2.5, -0.0, 0.0, 1e30))
    places = [place(word, number_of(DType.F32)) for word in floats]
    assert places == sorted(places)


def test_the_environment_settles_which_set_serves() -> None:
    with using("numpy"):
        assert isinstance(step_kernels_for(1 << 30), ArrayStepKernels)
    with using("numba"):
        assert isinstance(step_kernels_for(1), FusedStepKernels)
