"""Lists of changed words that were damaged or made up: CorruptData or bytes, and nothing written past an end."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, joined, noise, using
from codec.hostile import BASE, NUMBERS, attempt, by_both_sets, damaged, run
from codec.pairs import disturbed, listed, neighbours
from codec.test_sparse import head, runs, stepped
from shardflow.codec import CodecId, decode, encode_against, unchanged
from shardflow.codec.numbers import number_of
from shardflow.dtype import DType
from shardflow.errors import CorruptData

ONE_CLASS = b"\x00\x01"  # no low bits


def refusal(stored: bytes, size: int) -> str:
    with pytest.raises(CorruptData) as error:
        decode(CodecId.SPARSE, stored, memoryview(bytearray(size)), [BASE[:size]])
    return str(error.value)


@settings(max_examples=300)
@given(stored=st.binary(max_size=200), size=st.integers(0, 400))
def test_made_up_bytes_are_refused_or_fill_the_target(stored: bytes, size: int) -> None:
    by_both_sets(CodecId.SPARSE, stored, size, [BASE[:size]])


@settings(max_examples=600)
@given(
    number=st.sampled_from(NUMBERS),
    edge=st.integers(0, 300),
    count=st.integers(0, 40),
    before=st.lists(run, max_size=5),
    low=st.integers(0, 20),
    after=st.lists(run, max_size=5),
    size=st.integers(0, 300),
)
def test_made_up_runs_are_refused_or_fill_the_target(
    number: tuple[int, int],
    edge: int,
    count: int,
    before: list[tuple[int, bytes]],
    low: int,
    after: list[tuple[int, bytes]],
    size: int,
) -> None:
    gaps, steps = (b"".join(bytes([tag]) + data for tag, data in each) for each in (before, after))
    by_both_sets(CodecId.SPARSE, head(*number, edge, count) + gaps + bytes([low, 1]) + steps, size, [BASE[:size]])


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
@settings(max_examples=60)
@given(data=st.data())
def test_damage_is_refused_or_decodes_to_the_right_size(dtype: DType, data: st.DataObject) -> None:
    base = neighbours(dtype, 900)[0]
    edge = data.draw(st.sampled_from([0, number_of(dtype).exponents // 2 + 1]))
    stored = damaged(data, listed(base, disturbed(base, 0.05), dtype, edge))
    by_both_sets(CodecId.SPARSE, stored, len(base), [base])


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F32, DType.F64, DType.I64, DType.F8_E4M3])
def test_every_truncation_is_refused(dtype: DType) -> None:
    base = neighbours(dtype, 500)[0]
    new = disturbed(base, 0.03)
    stored = listed(base, new, dtype, number_of(dtype).exponents // 2)
    for length in range(len(stored)):
        assert attempt(CodecId.SPARSE, stored[:length], len(new), [base]) is None
    assert attempt(CodecId.SPARSE, stored, len(new), [base]) == new
    assert attempt(CodecId.SPARSE, stored + b"\x00", len(new), [base]) is None


def test_a_base_that_is_missing_too_much_or_of_another_size_is_refused() -> None:
    base = neighbours(DType.BF16, 500)[0]
    stored = listed(base, disturbed(base, 0.03), DType.BF16, 100)
    for bases in ([], [base, base], [base[:-2]], [base + b"00"], [b""]):
        with pytest.raises(CorruptData, match="needs one base as long, not"):
            decode(CodecId.SPARSE, stored, memoryview(bytearray(1000)), bases)


@pytest.mark.parametrize("share", [0.001, 0.1, 1])
def test_another_base_gives_other_bytes_or_an_error_never_a_crash(share: float) -> None:
    base, new = stepped(50_000)
    stored = listed(base, new, DType.BF16, 118)
    other = np.frombuffer(base, "<u2").copy()
    at = np.random.default_rng(0).random(other.size) < share
    other[at] = np.frombuffer(noise(2 * int(at.sum())), "<u2")
    assert by_both_sets(CodecId.SPARSE, stored, len(new), [other.tobytes()]) != new


@pytest.mark.parametrize(("number", "edge"), [((2, 7), 257), ((2, 10), 33), ((1, 0), 2), ((4, 23), 65535)])
def test_an_edge_that_no_exponent_reaches_is_refused(number: tuple[int, int], edge: int) -> None:
    size = 5 * number[0]
    assert "are listed from exponent" in refusal(head(*number, edge, 0) + ONE_CLASS, size)
    assert attempt(CodecId.SPARSE, head(*number, 0, 0) + ONE_CLASS, size, [BASE[:size]]) == BASE[:size]


def test_more_words_than_there_are_cannot_be_listed() -> None:
    stages = runs(0, 0) + ONE_CLASS + runs(4, 2)
    for count, fine in ((5, True), (6, False), (2**32 - 1, False)):
        assert (attempt(CodecId.SPARSE, head(1, 0, 0, count) + stages, 5, [BASE[:5]]) is not None) is fine
    assert "6 words are listed" in refusal(head(1, 0, 0, 6) + stages, 5)


def test_a_listed_word_must_be_in_the_chunk() -> None:
    for gap, fine in ((0, True), (3, True), (4, False), (255, False)):
        stored = head(1, 0, 0, 2) + runs(64 + 3, 0, gap) + ONE_CLASS + runs(4, 2)
        assert (attempt(CodecId.SPARSE, stored, 5, [BASE[:5]]) is not None) is fine
    assert "word 5 is listed, where there are 5" in refusal(head(1, 0, 0, 2) + runs(64 + 3, 0, 4) + ONE_CLASS, 5)
    largest = runs(*[4, 255] * 4)
    assert "is listed, where there are 5" in refusal(head(1, 0, 0, 5) + largest + ONE_CLASS, 5)


def test_a_word_below_the_edge_cannot_be_listed_again() -> None:
    assert "has a step in any case" in refusal(head(1, 0, 1, 1) + runs(64 + 3, 0) + ONE_CLASS + runs(4, 2), 5)


def test_fewer_steps_than_words_that_have_one_are_refused() -> None:
    full = head(1, 0, 0, 3) + runs(0, 0) + ONE_CLASS
    assert attempt(CodecId.SPARSE, full + runs(64 + 4, 2, 2, 2), 5, [BASE[:5]]) is not None
    assert attempt(CodecId.SPARSE, full + runs(64 + 4, 2, 2), 5, [BASE[:5]]) is None
    assert attempt(CodecId.SPARSE, full + runs(64 + 4, 2, 2, 2, 2), 5, [BASE[:5]]) is None


def test_more_low_bits_than_a_word_can_lose_are_refused() -> None:
    for low, fine in ((7, True), (8, False), (255, False)):
        stored = head(1, 0, 0, 1) + runs(0, 0) + bytes([low, 1]) + runs(4, 0)
        assert (attempt(CodecId.SPARSE, stored, 5, [BASE[:5]]) is not None) is fine


def test_lists_that_promise_much_take_no_more_than_a_few_times_the_chunk() -> None:
    size = 1 << 18
    base = noise(size)
    stored = head(1, 0, 0, size) + runs(0, 255) + runs(0, 0) + ONE_CLASS
    bomb = head(1, 0, 0, size) + runs(0, 255) + b"\x84" + struct.pack("<I", 2**32 - 1) + b"\xff" * 40
    tracemalloc.start()
    try:
        for each in (stored, bomb, head(1, 0, 0, size), head(1, 0, 1, 0)):
            assert attempt(CodecId.SPARSE, each, size, [base]) is None
        assert tracemalloc.get_traced_memory()[1] < 100 * size
    finally:
        tracemalloc.stop()


def test_a_mutated_whole_chunk_never_brings_the_loops_down() -> None:
    base, new = stepped(1 << 18)
    chosen = encode_against(new, DType.BF16, [unchanged(base, DType.BF16)])
    assert chosen.encoded.codec is CodecId.SPARSE
    stored = joined(chosen.encoded)
    rng = np.random.default_rng(7)
    with using("numba"):
        for _ in range(60):
            damaged = bytearray(stored)
            for at in (*rng.integers(0, len(stored), 2), *rng.integers(0, 80, 2)):
                damaged[at] ^= int(rng.integers(1, 256))
            attempt(CodecId.SPARSE, bytes(damaged), len(new), [base])
