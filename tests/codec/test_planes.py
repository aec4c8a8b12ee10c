"""What the planes codec notices in numbers, and the exact bytes it reads and writes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from codec.cases import KERNELS, as_bf16, assert_round_trip, joined, noise, using, weights
from shardflow.codec import CodecId, Encoded, decode, encode, frames, streams
from shardflow.dtype import DType


def fraction(data: bytes, dtype: DType) -> float:
    encoded = assert_round_trip(data, dtype)
    return encoded.size / len(data)


@pytest.fixture(scope="module")
def floats() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(weights(DType.F32, 1 << 18), "<f4")


@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        (DType.BF16, 0.666),
        (DType.F32, 0.835),
        (DType.F16, 0.848),
        (DType.F64, 0.90),
        (DType.C64, 0.835),
        (DType.F8_E5M2, 0.70),
        (DType.F8_E4M3, 0.83),
        (DType.I8, 0.82),
        (DType.I16, 0.43),
        (DType.I32, 0.22),
        (DType.I64, 0.11),
        (DType.U16, 0.36),
        (DType.U64, 0.10),
        (DType.BOOL, 0.16),
    ],
)
def test_weights_shrink_to_about_their_entropy(dtype: DType, most: float) -> None:
    reached = fraction(weights(dtype, 1 << 18), dtype)
    assert reached <= most


def test_float32_that_is_bfloat16_costs_what_bfloat16_costs(floats: np.ndarray) -> None:
    narrow = as_bf16(floats)
    wide = (narrow.astype("<u4") << 16).tobytes()
    assert fraction(wide, DType.F32) <= 0.345
    assert encode(wide, DType.F32).size <= encode(narrow.tobytes(), DType.BF16).size + 64


def test_float32_that_is_bfloat16_but_for_one_value_costs_hardly_more(floats: np.ndarray) -> None:
    wide = as_bf16(floats).astype("<u4") << 16
    wide[1234] |= 1
    reached = fraction(wide.tobytes(), DType.F32)
    assert reached <= 0.355


def test_float32_that_is_float16_costs_half_of_what_float16_costs(floats: np.ndarray) -> None:
    narrow = floats.astype("<f2")
    wide = narrow.astype("<f4").tobytes()
    assert fraction(wide, DType.F32) <= fraction(narrow.tobytes(), DType.F16) / 2 * 1.02


def test_float64_that_is_float32_costs_little_more_than_float32(floats: np.ndarray) -> None:
    assert fraction(floats.astype("<f8").tobytes(), DType.F64) <= 0.44


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16, DType.I64, DType.F64, DType.BYTES, DType.BOOL])
def test_a_chunk_of_zeros_costs_next_to_nothing(dtype: DType) -> None:
    assert encode(bytes(4 << 20), dtype).size < 600


def test_a_few_values_among_zeros_cost_about_what_they_are() -> None:
    sparse = np.zeros(1 << 19, "<u2")
    sparse[:: 1 << 12] = 0x3F81
    assert fraction(sparse.tobytes(), DType.BF16) < 0.01


def test_counting_numbers_are_seen_through() -> None:
    assert fraction(np.arange(1 << 17, dtype="<i8").tobytes(), DType.I64) < 0.02


def test_repeated_rows_are_found_where_planes_alone_would_not_pay() -> None:
    row = np.random.default_rng(2).integers(0, 2**32, 64, dtype="<u4")
    assert fraction(np.tile(row, 4096).tobytes(), DType.F32) < 0.02


@pytest.mark.parametrize("at", [0, 255, 256, 4095])
def test_bytes_that_are_the_same_but_for_one_are_not_constant(at: int) -> None:
    data = np.full(4096, 7, np.uint8)
    assert streams.is_constant(data)
    data[at] = 8
    assert not streams.is_constant(data)


def test_incompressible_numbers_are_left_alone() -> None:
    assert encode(noise(1 << 20), DType.F32).codec is CodecId.RAW


def test_a_sample_that_promised_too_much_never_makes_a_chunk_larger() -> None:
    """Slices that are all alike in a sea of noise: the sample sees only them."""
    data = np.frombuffer(noise(1 << 22), "<u2").copy()
    length, gap = (16 << 10) // 8, (data.size - (16 << 10) // 8) // 7
    for number in range(8):
        data[number * gap : number * gap + length] = 0x3C00
    assert_round_trip(data.tobytes(), DType.BF16)


def stream(width: int, dropped: int, fold: int, planes: list[tuple[int, bytes]], tail: bytes = b"") -> bytes:
    table = b"".join(struct.pack("<BI", coding, len(data)) for coding, data in planes)
    return bytes([width, dropped, fold]) + table + b"".join(data for _, data in planes) + tail


AB = frames.by_matches(memoryview(b"ab" * 40))
ZEROS = frames.by_huffman(memoryview(bytes(80)))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        # plane 0 holds the low bytes; one plane as it is, one constant, then a byte that makes no whole word
        (stream(2, 0, 0, [(1, b"\x01\x02\x03"), (0, b"\x09")], b"T"), "01 09 02 09 03 09 54"),
        # -2.0 as bfloat16 is C000; rotated 8001
        (stream(2, 0, 1, [(1, b"\x01\x01"), (0, b"\x80")]), "00 c0 00 c0"),
        # 1, -1, -2, 2 as int16 in zigzag are 2, 1, 3, 4
        (stream(2, 0, 2, [(1, b"\x02\x01\x03\x04"), (0, b"\x00")]), "01 00 ff ff fe ff 02 00"),
        # float32 that is bfloat16: two low bytes dropped
        (stream(4, 2, 1, [(0, b"\x01"), (1, b"\x80\x81")]), "00 00 00 c0 00 00 80 c0"),
        (stream(8, 7, 2, [(1, b"\x01\x02")]), "00 00 00 00 00 00 00 ff 00 00 00 00 00 00 00 01"),
        (stream(4, 0, 0, [(1, b"\x04"), (1, b"\x03"), (0, b"\x02"), (0, b"\x01")], b"abc"), "04 03 02 01 61 62 63"),
        (stream(2, 0, 0, [(2, AB), (2, ZEROS)]), "61 00 62 00" * 40),
    ],
)
def test_streams_written_by_hand_read_as_the_format_says(stored: bytes, plain: str, kernels: str) -> None:
    expected = bytes.fromhex(plain)
    out = bytearray(len(expected))
    with using(kernels):
        decode(CodecId.PLANES, stored, memoryview(out))
    assert out == expected


def test_bfloat16_is_written_as_noise_beside_a_frame() -> None:
    data = weights(DType.BF16, 4096)
    stored = joined(encode(data, DType.BF16))
    words = np.frombuffer(data, "<u2")
    rotated = words << 1 | words >> 15
    coding, length = struct.unpack_from("<BI", stored, 8)
    assert stored[:8] == bytes([2, 0, 1, 1]) + struct.pack("<I", 4096)
    assert stored[13 : 13 + 4096] == rotated.astype("u1").tobytes()
    assert (coding, 13 + 4096 + length) == (2, len(stored))


def test_an_encoding_that_is_decoded_twice_gives_the_same_bytes() -> None:
    data = weights(DType.F32, 9999)
    encoded = encode(data, DType.F32)
    assert isinstance(encoded, Encoded)
    for _ in range(2):
        out = bytearray(len(data))
        decode(encoded.codec, joined(encoded), memoryview(out))
        assert out == data
