"""A merged adapter is predicted by its low rank, rounded as peft rounds, alike wherever and however it is decoded."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.adapters import Merge, as_values, as_words, merge
from codec.cases import KERNELS, joined, noise, odd_floats, using, weights
from codec.pairs import assert_comes_back, disturbed, forced, restored_from
from shardflow.codec import (
    CodecId,
    Factors,
    decode,
    encode_against,
    factor_chunks,
    factors_from_adapter,
    fit_factors,
    merged,
    unchanged,
)
from shardflow.dtype import DType
from shardflow.errors import CorruptData

F32, F16, BF16 = DType.F32, DType.F16, DType.BF16
every_dtype = pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=lambda dtype: dtype.name)


def residual(case: Merge, factors: Factors) -> float:
    """What the best way to round leaves, as a fraction of the matrix."""
    chunks = factor_chunks(factors)
    predictions = [unchanged(case.base, case.dtype), *merged(case.base, case.dtype, chunks)]
    chosen = encode_against(case.new, case.dtype, predictions)
    assert chosen.encoded.codec is CodecId.LOWRANK
    assert restored_from(chosen.encoded, len(case.new), [case.base, *chunks]) == case.new
    return chosen.encoded.size / len(case.new)


def stored(factors: Factors, case: Merge) -> float:
    return sum(len(chunk) for chunk in factor_chunks(factors)) / len(case.new)


@pytest.mark.parametrize("rounded", [False, True])
@every_dtype
def test_an_adapter_that_is_given_leaves_next_to_nothing(dtype: DType, rounded: bool) -> None:
    case = merge(dtype, 512, 768, rank=8, rounded=rounded)
    factors = factors_from_adapter(case.a, case.b, case.scale, case.base, dtype)
    assert factors
    assert residual(case, factors) < (0.035 if dtype is F32 else 0.002)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("strength", [0.1, 1, 10])
@every_dtype
def test_an_adapter_that_is_not_given_is_found(dtype: DType, strength: float, rounded: bool) -> None:
    case = merge(dtype, 384, 512, rank=8, strength=strength, rounded=rounded)
    factors = fit_factors(case.new, case.base, dtype, case.rows)
    assert factors
    assert 8 <= factors.rank <= 10
    left = residual(case, factors)
    assert left < (0.09 if strength == 10 else 0.04)
    by_delta = encode_against(case.new, dtype, [unchanged(case.base, dtype)]).encoded.size / len(case.new)
    assert left + stored(factors, case) < by_delta / 4


def test_what_was_trained_on_top_of_a_merge_is_kept() -> None:
    case = merge(BF16, 256, 300)
    factors = factors_from_adapter(case.a, case.b, case.scale, case.base, BF16)
    assert factors
    data, chunks = disturbed(case.new, 0.05), factor_chunks(factors)
    for prediction in merged(case.base, BF16, chunks):
        assert_comes_back(data, BF16, prediction, [case.base, *chunks])


@pytest.mark.parametrize("change", ["none", "noise", "trained", "few"])
def test_where_nothing_of_low_rank_was_added_there_are_no_factors(change: str) -> None:
    case = merge(BF16, 200, 300)
    base = as_values(np.frombuffer(case.base, "<u2"), BF16)
    rng = np.random.default_rng(1)
    new = {
        "none": case.base,
        "noise": weights(BF16, base.size, 9),
        "trained": as_words(base + rng.standard_normal(base.size) * 1e-3, BF16).tobytes(),
        "few": disturbed(case.base, 0.001),
    }[change]
    assert fit_factors(new, case.base, BF16, case.rows) is None


def test_a_rank_beyond_the_limit_is_no_low_rank() -> None:
    case = merge(BF16, 300, 300, rank=40)
    assert fit_factors(case.new, case.base, BF16, 300, rank_max=20) is None
    factors = fit_factors(case.new, case.base, BF16, 300, rank_max=64)
    assert factors
    assert 40 <= factors.rank <= 44


@every_dtype
@settings(max_examples=40)
@given(data=st.data())
def test_matrices_of_any_bits_have_factors_or_none(dtype: DType, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    size = rows * columns * dtype.width
    kinds = st.sampled_from(["noise", "odd", "weights", "zeros"])
    sides = []
    for seed in (1, 2):
        odd = np.random.default_rng(seed).choice(np.array(odd_floats(dtype), f"<u{dtype.width}"), rows * columns)
        sides.append(
            {
                "noise": noise(size, seed),
                "odd": odd.tobytes(),
                "weights": weights(dtype, rows * columns, seed),
                "zeros": bytes(size),
            }[data.draw(kinds)]
        )
    factors = fit_factors(sides[0], sides[1], dtype, rows)
    if factors:
        chunks = factor_chunks(factors)
        for prediction in merged(sides[1], dtype, chunks):
            assert_comes_back(sides[0], dtype, prediction, [sides[1], *chunks])


def test_an_adapter_with_numbers_that_are_none_gives_no_factors() -> None:
    case = merge(BF16, 30, 40)
    spoiled = case.a.copy()
    spoiled[0, 0] = np.inf
    assert factors_from_adapter(spoiled, case.b, 1.0, case.base, BF16) is None
    assert factors_from_adapter(case.a * 0, case.b, 1.0, case.base, BF16) is None
    assert factors_from_adapter(case.a, case.b, 1.0, bytes(len(case.base)), DType.I16) is None


def test_matrices_and_adapters_that_do_not_fit_are_errors() -> None:
    case = merge(BF16, 30, 40)
    with pytest.raises(ValueError, match="are no matrix of 31 rows"):
        fit_factors(case.new, case.base, BF16, 31)
    with pytest.raises(ValueError, match="was not made of one of"):
        fit_factors(case.new, case.base[:-60], BF16, 30)
    with pytest.raises(ValueError, match="does not fit a matrix"):
        factors_from_adapter(case.a[:, 1:], case.b, 1.0, case.base, BF16)
    with pytest.raises(ValueError, match="does not fit a matrix"):
        factors_from_adapter(case.a[1:], case.b, 1.0, case.base, BF16)
    with pytest.raises(ValueError, match="nothing is merged into matrices of I16"):
        merged(case.base, DType.I16, [])


@every_dtype
@pytest.mark.parametrize("columns", [1, 7, 300, 100_000])
def test_a_prediction_is_the_same_in_whatever_pieces_it_is_made(dtype: DType, columns: int) -> None:
    rows = 200_000 // columns
    rng = np.random.default_rng(columns)
    sides = (rng.integers(-900, 900, (3, count)).astype(np.int32) for count in (rows, columns))
    chunks = factor_chunks(Factors(*sides, (-25, -26, -20)))
    base = weights(dtype, rows * columns)
    for prediction in merged(base, dtype, chunks):
        whole = prediction.words(0, rows * columns).copy()
        for first, count in ((0, 1), (5, 50_000), (190_000, 900), (rows * columns - 1, 1)):
            assert (prediction.words(first, count) == whole[first : first + count]).all()
    later = merged(base[9 * dtype.width :], dtype, chunks, first=9)
    for prediction, part in zip(merged(base, dtype, chunks), later, strict=True):
        whole = prediction.words(0, rows * columns).copy()
        assert (part.words(0, rows * columns - 9) == whole[9:]).all()


@every_dtype
def test_a_prediction_is_the_rounded_sum_in_exact_arithmetic(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    factors = Factors(*(rng.integers(-999, 999, (2, 20)).astype(np.int32) for _ in range(2)), (-27, -25))
    base = np.frombuffer(weights(dtype, 400), f"<u{dtype.width}")
    wide, *narrow = merged(base.tobytes(), dtype, factor_chunks(factors))
    starts = as_values(base, dtype)
    for at in range(400):
        exact = sum(
            Fraction(int(factors.left[k, at // 20]) * int(factors.right[k, at % 20])) * Fraction(2) ** exponent
            for k, exponent in enumerate(factors.exponents)
        )
        change = np.float32(float(exact))
        assert wide.words(at, 1)[0] == as_words(np.array([starts[at] + change]), dtype)[0]
        for prediction in narrow:
            rounded = as_values(as_words(np.array([change]), dtype), dtype)
            assert prediction.words(at, 1)[0] == as_words(starts[at] + rounded, dtype)[0]


@every_dtype
def test_infinities_nans_and_what_is_not_changed_are_predicted_to_stay(dtype: DType) -> None:
    odd = np.array(odd_floats(dtype), f"<u{dtype.width}")
    exponents = (1 << dtype.exponent_bits) - 1 << 8 * dtype.width - 1 - dtype.exponent_bits
    columns = odd.size
    right = np.ones((1, columns), np.int32)
    changed = factor_chunks(Factors(np.array([[5, 0]], np.int32), right, (-10,)))
    for prediction in merged(np.tile(odd, 2).tobytes(), dtype, changed):
        words = prediction.words(0, 2 * columns).copy()
        assert (words[columns:] == odd).all()
        special = odd & exponents == exponents
        assert (np.isnan(as_values(words[:columns][special], dtype)) == np.isnan(as_values(odd[special], dtype))).all()
        assert not np.isnan(as_values(words[:columns][~special], dtype)).any()


@pytest.mark.parametrize("kernels", KERNELS)
@every_dtype
def test_chunks_of_a_matrix_with_several_chunks_of_factors_come_back(dtype: DType, kernels: str) -> None:
    case = merge(dtype, 120, 250, rank=6)
    factors = factors_from_adapter(case.a, case.b, case.scale, case.base, dtype)
    assert factors
    chunks = factor_chunks(factors, limit=2000)
    assert len(chunks) >= 3
    with using(kernels):
        for first, end in ((0, 7777), (7777, 20_001), (20_001, 30_000)):
            part = slice(first * dtype.width, end * dtype.width)
            for prediction in merged(case.base[part], dtype, chunks, first):
                assert_comes_back(case.new[part], dtype, prediction, [case.base[part], *chunks])


def test_both_kernel_sets_write_the_same_bytes() -> None:
    case = merge(BF16, 100, 200)
    written = set()
    for kernels in KERNELS:
        with using(kernels):
            factors = fit_factors(case.new, case.base, BF16, case.rows)
            assert factors
            chunks = factor_chunks(factors)
            written.add((*chunks, joined(forced(case.new, merged(case.base, BF16, chunks)[0]))))
    assert len(written) == 1


BASE = struct.pack("<4H", 0x3F80, 0x3F80, 0x3F80, 0x3F80)
CHUNK = factor_chunks(Factors(np.array([[1, 2]], np.int32), np.array([[1, 0]], np.int32), (-1,)))[0]
OTHER = factor_chunks(Factors(np.ones((1, 3), np.int32), np.ones((1, 3), np.int32), (0,)))[0]
NO_STEPS = bytes([0, 1, 0, 0])  # low, classes, a constant run of one bit


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("header", "base", "plain"),
    [
        (struct.pack("<BBQ", 4, 0, 0), BASE, "c03f 803f 0040 803f"),  # 1 + 1/2, 1, 1 + 1, 1
        (struct.pack("<BBQ", 4, 1, 2), BASE[:4], "0040 803f"),  # the second row alone
        (struct.pack("<BBQ", 2, 0, 1), struct.pack("<ff", 1, 2), "0000803f 00004040"),
    ],
)
def test_streams_written_by_hand_read_as_the_format_says(header: bytes, base: bytes, plain: str, kernels: str) -> None:
    expected = bytes.fromhex(plain)
    out = bytearray(len(expected))
    with using(kernels):
        decode(CodecId.LOWRANK, header + NO_STEPS, memoryview(out), [base, CHUNK])
    assert out.hex() == expected.hex()


@pytest.mark.parametrize(
    ("header", "bases"),
    [
        (struct.pack("<BBQ", 4, 0, 0), []),
        (struct.pack("<BBQ", 4, 0, 0), [BASE]),
        (struct.pack("<BBQ", 4, 0, 0), [BASE[:-2], CHUNK]),
        (struct.pack("<BBQ", 4, 0, 0), [BASE, *[CHUNK] * 64]),
        (struct.pack("<BBQ", 4, 0, 0), [BASE, BASE]),
        (struct.pack("<BBQ", 4, 0, 0), [BASE, CHUNK[:-1]]),
        (
            struct.pack("<BBQ", 4, 0, 0),
            [BASE, CHUNK, factor_chunks(Factors(*[np.ones((1, 3), np.int32)] * 2, (0,)))[0]],
        ),
        (struct.pack("<BBQ", 4, 0, 1), [BASE, CHUNK]),
        (struct.pack("<BBQ", 4, 0, 2**64 - 1), [BASE, CHUNK]),
        (struct.pack("<BBQ", 4, 2, 0), [BASE, CHUNK]),
        (struct.pack("<BBQ", 8, 0, 0), [BASE, CHUNK]),
        (struct.pack("<BBQ", 1, 0, 0), [BASE, CHUNK]),
        (struct.pack("<BBQ", 99, 0, 0), [BASE, CHUNK]),
        (struct.pack("<BBQ", 4, 0, 0)[:-1], [BASE, CHUNK]),
    ],
)
def test_streams_and_bases_that_do_not_belong_together_are_refused(header: bytes, bases: list[bytes]) -> None:
    with pytest.raises(CorruptData):
        decode(CodecId.LOWRANK, header + NO_STEPS, memoryview(bytearray(8)), bases)


def test_factors_whose_product_would_not_be_exact_are_refused() -> None:
    numbers = np.full((1, 2), 2**20, np.int32)
    chunk = bytearray(factor_chunks(Factors(numbers, numbers, (0,)))[0])
    other = factor_chunks(Factors(numbers, numbers, (13,)))[0]
    with pytest.raises(CorruptData, match="is not exact"):
        decode(CodecId.LOWRANK, struct.pack("<BBQ", 4, 0, 0) + NO_STEPS, memoryview(bytearray(8)), [BASE, chunk, other])


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_merge_is_refused_or_decodes_to_the_right_size(data: st.DataObject) -> None:
    case = merge(BF16, 30, 40)
    factors = factors_from_adapter(case.a, case.b, case.scale, case.base, BF16)
    assert factors
    chunks = factor_chunks(factors)
    parts = [bytearray(joined(forced(case.new, merged(case.base, BF16, chunks)[0]))), bytearray(chunks[0])]
    for _ in range(data.draw(st.integers(1, 3))):
        part = parts[data.draw(st.integers(0, 1))]
        at = data.draw(st.integers(0, min(60, len(part) - 1)))
        if data.draw(st.booleans()):
            part[at] = data.draw(st.integers(0, 255))
        else:
            del part[at : at + data.draw(st.integers(1, 9))]
    results = []
    for kernels in KERNELS:
        with using(kernels):
            out = bytearray(len(case.new))
            try:
                decode(CodecId.LOWRANK, bytes(parts[0]), memoryview(out), [case.base, bytes(parts[1])])
                results.append(bytes(out))
            except CorruptData:
                results.append(b"")
    assert results[0] == results[1]
