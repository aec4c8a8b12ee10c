"""Factors of whole numbers: exact in whatever order they are multiplied, stored compactly, read with every check."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import KERNELS, using
from shardflow.codec import Factors, factor_chunks
from shardflow.codec.factors import MOST_RANK, joined, read_factors, wrong_with
from shardflow.errors import CorruptData


def made(rank: int, rows: int, columns: int, bits: int = 10, seed: int = 0) -> Factors:
    rng = np.random.default_rng(seed)
    left, right = (rng.standard_normal((rank, count)) * 2.0**bits / 4 for count in (rows, columns))
    exponents = tuple(int(exponent) for exponent in rng.integers(-30, -20, rank))
    return Factors(left.astype(np.int32), right.astype(np.int32), exponents)


def same(one: Factors, other: Factors) -> bool:
    sides = zip((one.left, one.right), (other.left, other.right), strict=True)
    return one.exponents == other.exponents and all(np.array_equal(mine, yours) for mine, yours in sides)


@st.composite
def any_factors(draw: st.DrawFn) -> Factors:
    rank, rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    largest = draw(st.sampled_from([0, 1, 100, 2**15, 2**20]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    left, right = (rng.integers(-largest, largest + 1, (rank, count)).astype(np.int32) for count in (rows, columns))
    return Factors(left, right, tuple(draw(st.lists(st.integers(-20, -12), min_size=rank, max_size=rank))))


@pytest.mark.parametrize("kernels", KERNELS)
@settings(max_examples=60)
@given(factors=any_factors())
def test_factors_come_back_from_their_chunk(kernels: str, factors: Factors) -> None:
    with using(kernels):
        (chunk,) = factor_chunks(factors)
        assert same(read_factors(chunk), factors)


@settings(max_examples=60)
@given(factors=any_factors(), order=st.randoms(use_true_random=False))
def test_the_product_is_the_same_in_any_order_and_any_blocks(factors: Factors, order: object) -> None:
    left, right = factors.as_doubles()
    product = left @ right
    lowest = min(factors.exponents)
    exact = [
        [
            sum(
                int(factors.left[k, i]) * int(factors.right[k, j]) << exponent - lowest
                for k, exponent in enumerate(factors.exponents)
            )
            for j in range(factors.columns)
        ]
        for i in range(factors.rows)
    ]
    assert product.tolist() == exact
    turned = list(range(factors.rank))
    order.shuffle(turned)  # type: ignore[attr-defined]
    assert (left[:, turned] @ right[turned] == product).all()
    assert (np.einsum("ik,kj->ij", left, right, optimize=False) == product).all()
    assert (np.add.reduce([np.outer(left[:, k], right[k]) for k in turned]) == product).all()
    cuts = sorted({0, factors.rows, *np.random.default_rng(0).integers(0, factors.rows, 3).tolist()})
    assert (np.concatenate([left[begin:end] @ right for begin, end in pairwise(cuts)]) == product).all()


def test_sums_up_to_the_last_exact_number_are_exact_and_beyond_are_refused() -> None:
    size = 2**26
    full = Factors(np.full((2, 1), size - 1, np.int32), np.full((2, 1), size - 1, np.int32), (0, 0))
    left, right = full.as_doubles()
    assert int((left @ right)[0, 0]) == 2 * (size - 1) ** 2
    assert not wrong_with(full)
    for beyond in (
        Factors(np.full((2, 1), size, np.int32), np.full((2, 1), size, np.int32), (0, 0)),
        Factors(np.full((2, 1), 2**20, np.int32), np.full((2, 1), 2**20, np.int32), (0, 13)),
        Factors(np.full((2, 1), -(2**31), np.int32), np.full((2, 1), -(2**31), np.int32), (0, 0)),
    ):
        assert "is not exact" in wrong_with(beyond)
        with pytest.raises(ValueError, match="is not exact"):
            factor_chunks(beyond)


@pytest.mark.parametrize("exponents", [(-401, 0), (0, 200), (-32768, 32767)])
def test_exponents_that_leave_the_range_are_refused(exponents: tuple[int, int]) -> None:
    numbers = np.ones((2, 3), np.int32)
    assert "exponents from" in wrong_with(Factors(numbers, numbers, exponents))


def test_factors_take_about_the_bits_that_their_numbers_have() -> None:
    for bits in (6, 9, 12, 20):
        factors = made(16, 700, 900, bits)
        entropy = bits - 2 + 2.05  # of normal numbers
        size = sum(len(chunk) for chunk in factor_chunks(factors))
        assert size * 8 < (entropy + 0.35) * 16 * (700 + 900) + 4000


def test_large_factors_go_into_several_chunks() -> None:
    factors = made(40, 900, 1100)
    chunks = factor_chunks(factors, limit=20_000)
    assert len(chunks) > 4
    assert all(len(chunk) <= 20_000 for chunk in chunks)
    assert same(joined([read_factors(chunk) for chunk in chunks]), factors)
    wide = made(MOST_RANK + 50, 10, 10, 5)
    assert [read_factors(chunk).rank for chunk in factor_chunks(wide)] == [153, 153]
    assert len(factor_chunks(made(3, 200, 200), limit=10)) == 3


def test_factors_of_different_matrices_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        joined([made(2, 3, 4), made(2, 4, 3)])


def header(version: int, rank: int, rows: int, columns: int, groups: list[int]) -> bytes:
    counts = struct.pack(f"<{len(groups)}H", *groups)
    return struct.pack("<BHIIH", version, rank, rows, columns, len(groups)) + bytes(2 * rank) + counts


ONES = bytes([0, 0])  # a stage of one bit, all zero


@pytest.mark.parametrize(
    "chunk",
    [
        header(2, 1, 1, 1, [1]) + ONES,
        header(1, 0, 1, 1, []),
        header(1, 257, 1, 1, [257]) + ONES,
        header(1, 1, 0, 1, [1]) + ONES,
        header(1, 1, 1, 0, [1]) + ONES,
        header(1, 1, 2**32 - 1, 2**32 - 1, [1]) + ONES,
        header(1, 256, 2**13, 2**13 + 1, [256]) + ONES,
        header(1, 2, 1, 1, [1]) + ONES,
        header(1, 2, 1, 1, [1, 0, 1]) + ONES * 3,
        header(1, 2, 1, 1, [3]) + ONES,
        header(1, 2, 1, 1, [1, 1]) + ONES,
        header(1, 1, 1, 1, [1]) + ONES + b"\x00",
        header(1, 1, 1, 1, [1]),
        header(1, 1, 1, 1, [])[:-2],
        b"",
    ],
)
def test_chunks_that_lie_are_refused(chunk: bytes) -> None:
    with pytest.raises(CorruptData):
        read_factors(chunk)


def test_a_chunk_written_by_hand_reads_as_the_format_says() -> None:
    stored = struct.pack("<BHIIHhhHH", 1, 2, 1, 2, 2, -3, -2, 1, 1)
    numbers = bytes([64 + 2, 0x21, 0x03, 64 + 4, 5, 6, 7, 0, 1, 0, 1])  # 1, -1, -2 in four bits; then steps up to 6
    factors = read_factors(stored + numbers[:3] + bytes([64 + 3, 5, 6, 0]))
    assert factors.exponents == (-3, -2)
    assert factors.left.tolist() == [[-1], [-3]]
    assert factors.right.tolist() == [[1, -2], [3, 0]]


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_chunk_is_refused_or_gives_factors_of_its_size(data: st.DataObject) -> None:
    chunk = bytearray(factor_chunks(made(3, 60, 50))[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(60, len(chunk) - 1)))
        if data.draw(st.booleans()):
            chunk[at] = data.draw(st.integers(0, 255))
        else:
            del chunk[at : at + data.draw(st.integers(1, 9))]
    try:
        factors = read_factors(bytes(chunk))
    except CorruptData:
        return
    assert factors.left.shape == (factors.rank, factors.rows)
    assert factors.right.shape == (factors.rank, factors.columns)
