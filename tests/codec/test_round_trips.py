"""Whatever goes in comes out, bit for bit, for every element type, size, alignment and kernel set."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import (
    EVERY_DTYPE,
    KERNELS,
    as_bf16,
    assert_round_trip,
    joined,
    noise,
    odd_floats,
    restored,
    using,
    weights,
)
from shardflow.codec import MAX_BYTES, CodecId, decode, encode
from shardflow.dtype import DType

every_dtype = pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
every_kernel_set = pytest.mark.parametrize("kernels", KERNELS)
FLOATS = [dtype for dtype in DType if dtype.exponent_bits]


@every_kernel_set
@every_dtype
@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=700))
def test_any_bytes_come_back_as_they_were(dtype: DType, kernels: str, data: bytes) -> None:
    with using(kernels):
        assert_round_trip(data, dtype)


@every_kernel_set
@every_dtype
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 3000),
    cut=st.integers(0, 15),
    seed=st.integers(0, 2**32 - 1),
    patches=st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=9)), max_size=4),
)
def test_weights_with_foreign_bytes_and_odd_lengths_come_back(
    dtype: DType, kernels: str, count: int, cut: int, seed: int, patches: list[tuple[int, bytes]]
) -> None:
    data = bytearray(weights(dtype, count, seed))
    data = data[: max(0, len(data) - cut)]
    for at, patch in patches:
        start = at % (len(data) + 1)
        data[start : start + len(patch)] = patch
    with using(kernels):
        assert_round_trip(bytes(data), dtype)


@every_kernel_set
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_nan_payloads_infinities_denormals_and_negative_zero_are_kept(dtype: DType, kernels: str) -> None:
    patterns = np.array(odd_floats(dtype), dtype=f"<u{dtype.width}")
    picked = np.random.default_rng(1).choice(patterns, 5000)
    with using(kernels):
        encoded = assert_round_trip(picked.tobytes(), dtype)
    assert encoded.codec is not CodecId.RAW


@every_dtype
def test_both_kernel_sets_write_the_same_bytes(dtype: DType) -> None:
    for size in (64, 1001, 70_007):
        data = weights(dtype, size // dtype.width + 1, seed=size)[:size]
        with using("numpy"):
            by_numpy = encode(data, dtype)
        with using("numba"):
            by_numba = encode(data, dtype)
        assert by_numpy.codec is by_numba.codec
        assert joined(by_numpy) == joined(by_numba)
        with using("numpy"):
            assert restored(by_numba, size) == data


@every_dtype
def test_the_smallest_inputs_come_back(dtype: DType) -> None:
    for size in range(140):
        assert_round_trip(noise(size), dtype)
        assert_round_trip(bytes(size), dtype)


@every_kernel_set
@pytest.mark.parametrize("dtype", [DType.BF16, DType.F32, DType.F64, DType.I32, DType.BYTES])
def test_a_whole_chunk_with_a_tail_comes_back(dtype: DType, kernels: str) -> None:
    data = weights(dtype, (4 << 20) // dtype.width) + b"end"
    with using(kernels):
        assert assert_round_trip(data, dtype).codec is not CodecId.RAW


@every_kernel_set
@pytest.mark.parametrize("offset", range(1, 8))
def test_numbers_that_start_at_odd_addresses_come_back(offset: int, kernels: str) -> None:
    data = weights(DType.F64, 3000)
    room = bytearray(offset) + data
    with using(kernels):
        encoded = encode(memoryview(room)[offset:], DType.F64)
        assert encoded.codec is CodecId.PLANES
        out = bytearray(len(room))
        decode(encoded.codec, joined(encoded), memoryview(out)[offset:])
    assert out[offset:] == data


def test_any_buffer_serves_as_input(tmp_path: Path) -> None:
    data = weights(DType.F16, 5000)
    (tmp_path / "weights").write_bytes(data)
    with (tmp_path / "weights").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        arrays = np.frombuffer(data, "<f2"), np.frombuffer(data, "u1")
        inputs = [data, bytearray(data), memoryview(data), mapped, *arrays]
        stored = {joined(encode(each, DType.F16)) for each in inputs}
        del inputs, arrays
    assert len(stored) == 1


def test_what_does_not_compress_is_passed_on_without_a_copy() -> None:
    data = bytearray(noise(1 << 20))
    for dtype in DType:
        encoded = encode(data, dtype)
        assert encoded.codec is CodecId.RAW
        assert np.shares_memory(np.frombuffer(encoded.parts[0], "u1"), np.frombuffer(data, "u1"))


def test_encodings_stay_as_they_are_while_others_are_made() -> None:
    inputs = [weights(DType.BF16, 100_000 + seed, seed) for seed in range(8)]
    held = [encode(data, DType.BF16) for data in inputs]
    parts = [np.frombuffer(encoded.parts[0], "u1")[5:] for encoded in held]
    copies = [part.tobytes() for part in parts]
    for data in inputs * 3:
        encode(data[::-1], DType.F32)
    assert [restored(encoded, len(data)) for encoded, data in zip(held, inputs, strict=True)] == inputs
    del held
    for data in inputs * 3:
        encode(data[::-1], DType.F32)
    assert [part.tobytes() for part in parts] == copies


def test_many_threads_encode_and_decode_at_once() -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        dtype = EVERY_DTYPE[seed % len(EVERY_DTYPE)]
        for turn in range(6):
            data = weights(dtype, 40_000, seed * 100 + turn)
            encoded = encode(data, dtype)
            if restored(encoded, len(data)) != data:
                failures.append(seed)

    with using("numba"):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_more_than_a_chunk_can_be_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(bytes(MAX_BYTES + 1), DType.BYTES)


def test_a_strided_view_is_refused() -> None:
    with pytest.raises(ValueError, match="in one piece"):
        encode(memoryview(bytes(1000))[::2], DType.BYTES)


def test_narrow_values_in_wide_floats_come_back() -> None:
    values = np.frombuffer(weights(DType.F32, 20_000), "<f4")
    for narrow in (as_bf16(values).astype("<u4") << 16, values.astype("<f2").astype("<f4"), values.astype("<f8")):
        dtype = DType.F64 if narrow.itemsize == 8 else DType.F32
        assert_round_trip(narrow.tobytes(), dtype)
        broken = narrow.copy()
        broken.view(f"<u{narrow.itemsize}")[12_345] |= 1  # one value that does not fit spoils nothing
        assert_round_trip(broken.tobytes(), dtype)
