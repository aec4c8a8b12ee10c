"""Chunks of which few words changed: when they are stored so, what that takes, and the exact bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, KERNELS, as_bf16, joined, noise, odd_floats, using, weights
from codec.pairs import FLOATS, disturbed, listed, neighbours, restored_from, trained
from shardflow.codec import Chosen, CodecId, Encoded, decode, edges, encode_against, predicted, unchanged
from shardflow.codec.numbers import number_of
from shardflow.dtype import DType

COUNT = 1 << 18
CONSTANT, RAW = 0, 64  # coding of a run, added to its tag
ONE, TWO, FOUR, EIGHT, LOW = range(5)  # tags of the stages

every_dtype = pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
every_kernel_set = pytest.mark.parametrize("kernels", KERNELS)


def stepped(count: int, seed: int = 0) -> tuple[bytes, bytes]:
    """bfloat16 weights before and after a few steps that are rounded away from all but the small ones."""
    rng = np.random.default_rng(seed)
    before = as_bf16((rng.standard_normal(count) * 0.02).astype("<f4"))
    after = before
    for _ in range(10):
        values = (after.astype("<u4") << 16).view("<f4") + (rng.standard_normal(count) * 4e-6).astype("<f4")
        after = as_bf16(values)
    return before.tobytes(), after.tobytes()


def chosen_for(base: bytes, data: bytes, dtype: DType) -> Chosen:
    chosen = encode_against(data, dtype, [unchanged(base, dtype)])
    assert restored_from(chosen.encoded, len(data), [base] if chosen.prediction else []) == data
    return chosen


def by_steps(base: bytes, data: bytes, dtype: DType) -> Encoded:
    """The delta that gives each word a step."""
    encoded = predicted._encoded(memoryview(data), unchanged(base, dtype), 4 * len(data), None)
    assert encoded
    return encoded


def assert_comes_back(base: bytes, data: bytes, dtype: DType, edge: int) -> None:
    stored = listed(base, data, dtype, edge)
    assert restored_from(Encoded(CodecId.SPARSE, (stored,), len(stored)), len(data), [base]) == data


def edges_of(dtype: DType) -> list[int]:
    exponents = number_of(dtype).exponents
    return sorted({0, 1, exponents // 2, exponents + 1})


def test_weights_that_moved_a_little_are_stored_so_and_take_no_more() -> None:
    base, data = stepped(COUNT)
    encoded = chosen_for(base, data, DType.BF16).encoded
    assert encoded.codec is CodecId.SPARSE
    assert encoded.size < 1.04 * by_steps(base, data, DType.BF16).size
    assert encoded.size < 0.05 * len(data)


@pytest.mark.parametrize("dtype", [DType.F16, DType.F32, DType.F64, DType.I16, DType.I32, DType.I64, DType.U8])
def test_a_few_changes_among_any_numbers_are_listed(dtype: DType) -> None:
    base = weights(dtype, COUNT)
    words = np.frombuffer(base, f"<u{dtype.width}").copy()
    words[np.random.default_rng(1).choice(COUNT, COUNT // 200, replace=False)] += 1
    encoded = chosen_for(base, words.tobytes(), dtype).encoded
    assert encoded.codec is CodecId.SPARSE
    assert encoded.size < COUNT // 200 * 1.8


def test_where_many_words_changed_each_has_a_step() -> None:
    for base, data in (trained(DType.BF16, COUNT, 1e-4), trained(DType.F32, COUNT, 1e-6)):
        dtype = DType.BF16 if len(data) == 2 * COUNT else DType.F32
        assert chosen_for(base, data, dtype).encoded.codec is CodecId.DELTA


def test_small_chunks_are_not_worth_a_list() -> None:
    base, data = stepped(1 << 15)
    assert chosen_for(base, data, DType.BF16).encoded.codec is CodecId.DELTA


def test_changes_that_the_sample_did_not_see_cost_no_more_than_with_a_step_each() -> None:
    base, data = trained(DType.BF16, COUNT, 1e-4)
    words = np.frombuffer(data, "<u2").copy()
    length = predicted.SAMPLE // 32
    for first in range(0, words.size - length + 1, (words.size - length) // 31):
        words[first : first + length] = np.frombuffer(base, "<u2")[first : first + length]
    prediction = unchanged(base, DType.BF16)
    assert predicted.look(memoryview(words.tobytes()), prediction).edge
    encoded = chosen_for(base, words.tobytes(), DType.BF16).encoded
    assert encoded.codec is CodecId.DELTA
    assert encoded.size == by_steps(base, words.tobytes(), DType.BF16).size


def test_an_estimate_is_near_the_truth() -> None:
    base, data = stepped(1 << 20)
    outlook = predicted.look(memoryview(data), unchanged(base, DType.BF16))
    assert outlook.edge
    assert outlook.size == pytest.approx(chosen_for(base, data, DType.BF16).encoded.size, rel=0.25)


def test_the_edge_lies_where_words_are_too_large_to_move() -> None:
    base, data = (np.frombuffer(each, "<u2") for each in stepped(COUNT))
    edge = edges.find(data, base, number_of(DType.BF16))
    assert edge
    exponents = base >> 7 & 255
    assert (data != base)[exponents < edge.exponent - 1].mean() > 0.5
    assert (data != base)[exponents >= edge.exponent].mean() < 0.1


@every_kernel_set
@every_dtype
@settings(max_examples=25)
@given(data=st.data())
def test_any_bytes_come_back_from_any_base(dtype: DType, kernels: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 600))
    base, new = data.draw(st.binary(min_size=size, max_size=size)), data.draw(st.binary(min_size=size, max_size=size))
    edge = data.draw(st.integers(0, number_of(dtype).exponents + 1))
    with using(kernels):
        assert_comes_back(base, new, dtype, edge)


@every_kernel_set
@every_dtype
@settings(max_examples=20)
@given(count=st.integers(0, 3000), share=st.sampled_from([0, 0.001, 0.05, 0.7]), seed=st.integers(0, 2**32 - 1))
def test_a_few_changes_come_back_whatever_the_edge(
    dtype: DType, kernels: str, count: int, share: float, seed: int
) -> None:
    base = neighbours(dtype, count, seed)[0]
    with using(kernels):
        for edge in edges_of(dtype):
            assert_comes_back(base + b"old", disturbed(base, share, seed) + b"new", dtype, edge)


@every_kernel_set
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_every_odd_value_is_reached_from_every_other(dtype: DType, kernels: str) -> None:
    patterns = np.array(odd_floats(dtype), dtype=f"<u{dtype.width}")
    base, new = np.repeat(patterns, patterns.size), np.tile(patterns, patterns.size)
    with using(kernels):
        for edge in edges_of(dtype):
            assert_comes_back(base.tobytes(), new.tobytes(), dtype, edge)


def test_both_kernel_sets_write_the_same_bytes() -> None:
    base, data = stepped(70_007)
    stored = set()
    for kernels in KERNELS:
        with using(kernels):
            stored.add(joined(chosen_for(base + b"x", data + b"y", DType.BF16).encoded))
    assert len(stored) == 1


def test_words_that_start_at_odd_addresses_come_back() -> None:
    base, data = stepped(70_000)
    rooms = [bytearray(1) + base, bytearray(3) + data, bytearray(5 + len(data))]
    views = [memoryview(room)[offset:] for room, offset in zip(rooms, (1, 3, 5), strict=True)]
    for kernels in KERNELS:
        with using(kernels):
            chosen = encode_against(views[1], DType.BF16, [unchanged(views[0], DType.BF16)])
            assert chosen.encoded.codec is CodecId.SPARSE
            decode(chosen.encoded.codec, joined(chosen.encoded), views[2], [views[0]])
        assert rooms[2][5:] == data


def runs(*parts: bytes | int) -> bytes:
    return b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)


def head(width: int, mantissa: int, edge: int, count: int) -> bytes:
    return struct.pack("<BBHI", width, mantissa, edge, count)


@every_kernel_set
@pytest.mark.parametrize(
    ("stored", "base", "plain"),
    [
        # bfloat16: of exponents from 127 on, the second word is listed, one up; the third, below, has a step of 0
        (
            runs(head(2, 7, 127, 1), RAW + TWO, 1, 0, 1, RAW + TWO, 0b00_10, b"T"),
            "803f 803f 003f 58",
            "803f 813f 003f 54",
        ),
        # int16: nothing lies below, two words are listed, 1 and 2 words before them; steps of 2 and 1
        (runs(head(2, 0, 0, 2), RAW + TWO, 0b10_01, 0, 1, RAW + TWO, 0b01_10), "0500" * 5, "050006000500050004 00"),
        # int8, 64 words: in one block that changed, all words have a step, which is -1
        (runs(head(1, 0, 1, 0), RAW, 2, 0, 1, CONSTANT + LOW, 1), "07" * 64, "07" * 32 + "06" * 32),
        # float32 of which 16 bits do not count, listed
        (
            runs(head(4, 23, 0, 1), CONSTANT + ONE, 0, 16, 1, RAW + TWO, 0b10),
            "0000803f 0000803f",
            "0000813f 0000803f",
        ),
        # nothing changed
        (runs(head(8, 52, 0, 0), 0, 1, b"7 bytes"), "11" * 15, "11" * 8 + b"7 bytes".hex()),
    ],
)
def test_streams_written_by_hand_read_as_the_format_says(stored: bytes, base: str, plain: str, kernels: str) -> None:
    expected = bytes.fromhex(plain)
    out = bytearray(len(expected))
    with using(kernels):
        decode(CodecId.SPARSE, stored, memoryview(out), [bytes.fromhex(base)])
    assert out.hex() == expected.hex()


def test_the_same_chunk_again_costs_next_to_nothing() -> None:
    base = noise(4 << 20)
    encoded = chosen_for(base, base, DType.F32).encoded
    assert encoded.codec is CodecId.SPARSE
    assert encoded.size <= 16
