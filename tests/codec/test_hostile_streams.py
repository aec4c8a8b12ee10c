"""Stored bytes that were damaged or made up: CorruptData or the right bytes, and no memory for promises."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, KERNELS, joined, noise, using, weights
from codec.hostile import damaged
from shardflow.codec import CodecId, decode, encode
from shardflow.dtype import DType
from shardflow.errors import CorruptData

CODECS = (CodecId.RAW, CodecId.ZSTD, CodecId.PLANES)  # those without bases


def attempt(codec: int, stored: bytes, size: int) -> bytes | None:
    """What decoding gives, or None where it says that the data are corrupt; anything else fails the test."""
    room = bytearray(b"\xa5" * (size + 16))
    try:
        decode(codec, stored, memoryview(room)[8 : 8 + size])
    except CorruptData:
        return None
    finally:
        assert room[:8] == room[8 + size :] == b"\xa5" * 8
    return bytes(room[8 : 8 + size])


def refused(codec: int, stored: bytes, size: int) -> bool:
    return attempt(codec, stored, size) is None


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=150, deadline=None)
@given(stored=st.binary(max_size=200), size=st.integers(0, 400))
def test_made_up_bytes_are_refused(codec: CodecId, kernels: str, stored: bytes, size: int) -> None:
    with using(kernels):
        result = attempt(codec, stored, size)
    assert result is None or codec is CodecId.RAW


@settings(max_examples=300, deadline=None)
@given(
    header=st.tuples(st.sampled_from([2, 4, 8]), st.integers(0, 7), st.integers(0, 2)),
    table=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=8),
    body=st.binary(max_size=300),
    size=st.integers(0, 200),
)
def test_made_up_planes_are_refused_or_fill_the_target(
    header: tuple[int, int, int], table: list[tuple[int, int]], body: bytes, size: int
) -> None:
    stored = bytes(header) + b"".join(struct.pack("<BI", *entry) for entry in table) + body
    with using("numba"):
        by_numba = attempt(CodecId.PLANES, stored, size)
    with using("numpy"):
        assert attempt(CodecId.PLANES, stored, size) == by_numba


@pytest.mark.parametrize("dtype", [*EVERY_DTYPE], ids=lambda dtype: dtype.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_stream_is_refused_or_decodes_to_the_right_size(dtype: DType, data: st.DataObject) -> None:
    plain = weights(dtype, 900)[:-1]
    encoded = encode(plain, dtype)
    stored = damaged(data, joined(encoded))
    results = set()
    for kernels in KERNELS:
        with using(kernels):
            results.add(attempt(encoded.codec, stored, len(plain)))
    assert len(results) == 1


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F32, DType.I64, DType.BOOL, DType.F8_E4M3])
def test_every_truncation_is_refused_or_loses_nothing(dtype: DType) -> None:
    plain = weights(dtype, 300)
    encoded = encode(plain, dtype)
    stored = joined(encoded)
    for length in range(len(stored)):
        assert attempt(encoded.codec, stored[:length], len(plain)) in {None, plain}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("delta", [-1, 1, 2, 100])
def test_a_target_of_another_size_is_refused(codec: CodecId, delta: int) -> None:
    data = {CodecId.RAW: noise(800), CodecId.ZSTD: b"word " * 160, CodecId.PLANES: weights(DType.BF16, 400)}[codec]
    encoded = encode(data, DType.BF16 if codec is CodecId.PLANES else DType.BYTES)
    assert encoded.codec is codec
    assert refused(codec, joined(encoded), 800 + delta)


@pytest.mark.parametrize("codec", [3, 15, 20, 99, -1])
def test_an_unknown_codec_says_so(codec: int) -> None:
    with pytest.raises(CorruptData, match=f"codec {codec} is not known here; read it with"):
        decode(codec, b"stored", memoryview(bytearray(6)))


def test_bases_for_a_codec_without_bases_are_refused() -> None:
    with pytest.raises(CorruptData, match="takes no bases"):
        decode(CodecId.RAW, b"stored", memoryview(bytearray(6)), [b"base"])


def test_nothing_decodes_into_nothing() -> None:
    decode(CodecId.RAW, b"", memoryview(bytearray()))
    assert refused(CodecId.PLANES, b"", 0)
    assert refused(CodecId.ZSTD, b"", 0)


def test_a_frame_that_promises_terabytes_is_refused_without_taking_memory() -> None:
    bomb = b"\x28\xb5\x2f\xfd" + b"\xe0" + struct.pack("<Q", 1 << 42) + b"\x01\x00\x00"
    table = b"".join(struct.pack("<BI", 2, size) for size in (len(bomb), len(bomb)))
    tracemalloc.start()
    try:
        assert refused(CodecId.ZSTD, bomb, 1 << 16)
        assert refused(CodecId.PLANES, b"\x02\x00\x01" + table + bomb * 2, 1 << 16)
        assert refused(CodecId.PLANES, b"\x02\x00\x01" + struct.pack("<BIBI", 2, 2**32 - 1, 1, 2**32 - 1), 1 << 16)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_holds_more_than_it_declares_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(1000)))
    assert frame[4:7] == b"\x60" + struct.pack("<H", 1000 - 256)
    frame[5:7] = struct.pack("<H", 900 - 256)
    assert refused(CodecId.ZSTD, bytes(frame), 900)


def test_a_frame_without_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    assert refused(CodecId.ZSTD, frame, 1000)


def test_a_frame_with_a_huge_window_is_refused() -> None:
    compressor = zstandard.ZstdCompressor().compressobj(size=1000)
    frame = bytearray(compressor.compress(noise(1000)) + compressor.flush())
    header = b"\x28\xb5\x2f\xfd" + bytes([0x40, (27 - 10) << 3]) + struct.pack("<H", 1000 - 256)
    assert refused(CodecId.ZSTD, header + bytes(frame[7:]), 1000)


def test_a_frame_that_wants_a_dictionary_is_refused() -> None:
    samples = [b"tensor %d of layer %d" % (number, number % 7) for number in range(2000)]
    dictionary = zstandard.train_dictionary(2048, samples)
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(samples[3] * 9)
    assert refused(CodecId.ZSTD, frame, len(samples[3]) * 9)


def test_a_skippable_frame_is_refused() -> None:
    assert refused(CodecId.ZSTD, struct.pack("<II", 0x184D2A50, 100) + bytes(100), 100)


@pytest.mark.parametrize(
    "header",
    [(0, 0, 0), (1, 0, 0), (3, 0, 0), (16, 0, 0), (2, 2, 0), (4, 4, 1), (8, 255, 1), (2, 0, 3), (2, 0, 255)],
)
def test_headers_that_were_never_written_are_refused(header: tuple[int, int, int]) -> None:
    table = struct.pack("<BIBI", 1, 4, 1, 4)
    assert refused(CodecId.PLANES, bytes(header) + table + bytes(8), 8)


@pytest.mark.parametrize("entry", [(0, 0), (0, 2), (1, 3), (1, 5), (2, 4), (2, 400), (3, 1), (255, 4)])
def test_plane_entries_that_cannot_be_are_refused(entry: tuple[int, int]) -> None:
    table = struct.pack("<BIBI", 0, 1, *entry)
    assert refused(CodecId.PLANES, b"\x02\x00\x00" + table + bytes(1 + entry[1]), 8)


def test_bytes_left_over_behind_the_planes_are_refused() -> None:
    stored = b"\x02\x00\x00" + struct.pack("<BIBI", 0, 1, 1, 4) + bytes(5)
    assert attempt(CodecId.PLANES, stored, 8) == bytes(8)
    assert refused(CodecId.PLANES, stored + b"\x00", 8)


def test_a_mutated_whole_chunk_never_brings_the_loops_down() -> None:
    plain = weights(DType.BF16, 1 << 18)
    stored = joined(encode(plain, DType.BF16))
    rng = np.random.default_rng(7)
    with using("numba"):
        for _ in range(60):
            damaged = bytearray(stored)
            for at in rng.integers(0, len(stored), 3):
                damaged[at] ^= int(rng.integers(1, 256))
            damaged[int(rng.integers(0, 13))] ^= int(rng.integers(0, 256))
            attempt(CodecId.PLANES, bytes(damaged), len(plain))
