"""Deltas that were damaged, made up, or meant for another base: CorruptData or bytes, and no memory for promises."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, joined, noise, using
from codec.hostile import BASE, NUMBERS, attempt, by_both_sets, damaged, run
from codec.pairs import assert_delta, neighbours, trained
from shardflow.codec import CodecId, decode, encode_against, unchanged
from shardflow.codec.buffers import _scratch
from shardflow.dtype import DType
from shardflow.errors import CorruptData


@settings(max_examples=300)
@given(stored=st.binary(max_size=200), size=st.integers(0, 400))
def test_made_up_bytes_are_refused_or_fill_the_target(stored: bytes, size: int) -> None:
    by_both_sets(CodecId.DELTA, stored, size, [BASE[:size]])


@settings(max_examples=600)
@given(
    number=st.sampled_from(NUMBERS),
    low=st.integers(0, 20),
    starts=st.lists(st.integers(0, 300), max_size=4),
    sort=st.booleans(),
    runs=st.lists(run, max_size=12),
    size=st.integers(0, 300),
)
def test_made_up_runs_are_refused_or_fill_the_target(
    number: tuple[int, int], low: int, starts: list[int], sort: bool, runs: list[tuple[int, bytes]], size: int
) -> None:
    coded = [bytes([tag]) + data for tag, data in runs]
    first, rest = (coded[:1], coded[1:]) if size >= 32 * number[0] else ([], coded)
    cuts = sorted(starts) if sort else starts
    classes = bytes([1 + len(cuts)]) + struct.pack(f"<{len(cuts)}H", *cuts)
    by_both_sets(CodecId.DELTA, bytes([*number, low]) + b"".join([*first, classes, *rest]), size, [BASE[:size]])


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_delta_is_refused_or_decodes_to_the_right_size(dtype: DType, data: st.DataObject) -> None:
    base, new = neighbours(dtype, 900)
    stored = damaged(data, joined(assert_delta(base, new, dtype).encoded))
    by_both_sets(CodecId.DELTA, stored, len(new), [base])


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F32, DType.F64, DType.I64, DType.F8_E4M3])
def test_every_truncation_is_refused(dtype: DType) -> None:
    base, new = neighbours(dtype, 500)
    stored = joined(assert_delta(base, new, dtype).encoded)
    for length in range(len(stored)):
        assert attempt(CodecId.DELTA, stored[:length], len(new), [base]) is None
    assert attempt(CodecId.DELTA, stored, len(new), [base]) == new
    assert attempt(CodecId.DELTA, stored + b"\x00", len(new), [base]) is None


def test_a_base_that_is_missing_too_much_or_of_another_size_is_refused() -> None:
    base, new = trained(DType.BF16, 500)
    stored = joined(assert_delta(base, new, DType.BF16).encoded)
    for bases in ([], [base, base], [base[:-2]], [base + b"00"], [b""]):
        with pytest.raises(CorruptData, match="needs one base as long, not"):
            decode(CodecId.DELTA, stored, memoryview(bytearray(1000)), bases)


@pytest.mark.parametrize("share", [0.001, 0.1, 1])
def test_another_base_gives_other_bytes_or_an_error_never_a_crash(share: float) -> None:
    base, new = trained(DType.BF16, 50_000)
    stored = joined(assert_delta(base, new, DType.BF16).encoded)
    other = np.frombuffer(base, "<u2").copy()
    at = np.random.default_rng(0).random(other.size) < share
    other[at] = np.frombuffer(noise(2 * int(at.sum())), "<u2")
    assert by_both_sets(CodecId.DELTA, stored, len(new), [other.tobytes()]) != new


@pytest.mark.parametrize("header", [(0, 0), (3, 0), (16, 0), (8, 1), (8, 23), (2, 8), (4, 22), (1, 7), (255, 255)])
def test_kinds_of_numbers_that_do_not_exist_are_refused(header: tuple[int, int]) -> None:
    assert attempt(CodecId.DELTA, bytes(header) + b"\x00\x01", 1, [b"x"]) is None


@pytest.mark.parametrize(("number", "low"), [((2, 7), 8), ((4, 23), 24), ((2, 0), 16), ((1, 0), 8)])
def test_more_low_bits_than_a_word_can_lose_are_refused(number: tuple[int, int], low: int) -> None:
    one_step_of_zero = bytes([1, 0, 0])
    assert (
        attempt(CodecId.DELTA, bytes([*number, low - 1]) + one_step_of_zero, number[0], [BASE[: number[0]]]) is not None
    )
    assert attempt(CodecId.DELTA, bytes([*number, low]) + one_step_of_zero, number[0], [BASE[: number[0]]]) is None


@pytest.mark.parametrize("starts", [[0], [5, 5], [6, 5], [256], [1, 65535], list(range(1, 33))])
def test_classes_that_cannot_be_are_refused(starts: list[int]) -> None:
    classes = bytes([1 + len(starts)]) + struct.pack(f"<{len(starts)}H", *starts)
    assert attempt(CodecId.DELTA, b"\x02\x07\x00" + classes + b"\x00\x00" * 40, 4, [BASE[:4]]) is None
    assert attempt(CodecId.DELTA, b"\x02\x07\x00\x00" + b"\x00\x00" * 40, 4, [BASE[:4]]) is None


def test_bits_behind_the_last_number_must_be_zero() -> None:
    for packed, fine in ((0b0000_0101, True), (0b0100_0101, False), (0b0001_0101, True)):
        assert (attempt(CodecId.DELTA, bytes([1, 0, 0, 1, 65, packed]), 3, [BASE[:3]]) is not None) is fine


def test_values_in_endless_stages_are_refused() -> None:
    stages = bytes([0, 1]) * 40  # one bit for each value, always beyond
    assert attempt(CodecId.DELTA, b"\x08\x00\x00\x01" + stages, 8, [BASE[:8]]) is None


def test_runs_in_runs_in_runs_are_refused() -> None:
    nested = bytes([192] * 60) + b"\x40\x01" * 60
    assert attempt(CodecId.DELTA, b"\x01\x00\x00\x01" + b"\xc4" + nested, 64, [BASE[:64]]) is None


def test_a_run_of_zeros_with_nothing_in_it_is_refused() -> None:
    assert attempt(CodecId.DELTA, bytes([1, 0, 0, 1, 196, 64, 0, 0, 7]), 8, [BASE[:8]]) is None


def test_streams_that_promise_much_take_no_memory_for_it() -> None:
    base = bytes(1 << 16)
    bomb = b"\x28\xb5\x2f\xfd" + b"\xe0" + struct.pack("<Q", 1 << 42) + b"\x01\x00\x00"
    attempt(CodecId.DELTA, b"\x01\x00\x00\x00\xff\x01\x00\x00", len(base), [base])  # work spaces are there from now on
    held = sum(space.nbytes for space in _scratch.slots.values())
    tracemalloc.start()
    try:
        for body in (bomb, struct.pack("<I", 2**32 - 1), b"\xff" * 40):
            assert (
                attempt(
                    CodecId.DELTA,
                    b"\x01\x00\x00\x00\xff\x01\x84" + struct.pack("<I", len(bomb)) + body,
                    1 << 16,
                    [base],
                )
                is None
            )
            assert (
                attempt(CodecId.DELTA, b"\x01\x00\x00\x80" + struct.pack("<I", 2**32 - 1) + body, 1 << 16, [base])
                is None
            )
        assert attempt(CodecId.DELTA, b"\x01\x00\x00\x00\xff\x01" + b"\x00\x01" * 30, 1 << 16, [base]) is None
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert sum(space.nbytes for space in _scratch.slots.values()) <= held + (1 << 20)


def test_a_mutated_whole_chunk_never_brings_the_loops_down() -> None:
    base, new = trained(DType.BF16, 1 << 18, 1e-4)
    stored = joined(encode_against(new, DType.BF16, [unchanged(base, DType.BF16)]).encoded)
    rng = np.random.default_rng(7)
    with using("numba"):
        for _ in range(60):
            damaged = bytearray(stored)
            for at in (*rng.integers(0, len(stored), 2), *rng.integers(0, 80, 2)):
                damaged[at] ^= int(rng.integers(1, 256))
            attempt(CodecId.DELTA, bytes(damaged), len(new), [base])
