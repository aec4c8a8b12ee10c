"""Bytes without elements: compressed where it pays, passed on where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from codec.cases import assert_round_trip, joined, noise
from shardflow.codec import CodecId, encode
from shardflow.dtype import DType

TEXT = "".join(f'"layers.{number}.weight": [{number * 37}, {number * 91}],\n' for number in range(20_000)).encode()


def test_text_becomes_one_zstd_frame_that_any_zstd_reads() -> None:
    encoded = assert_round_trip(TEXT, DType.BYTES)
    assert encoded.codec is CodecId.ZSTD
    assert encoded.size < len(TEXT) / 4
    assert zstandard.decompress(joined(encoded)) == TEXT


def test_a_frame_declares_its_size_and_carries_no_checksum() -> None:
    header = zstandard.get_frame_parameters(joined(encode(TEXT, DType.BYTES)))
    assert header.content_size == len(TEXT)
    assert not header.has_checksum
    assert not header.dict_id


@pytest.mark.parametrize("size", [64, 1000, 65_536, 1 << 20])
def test_noise_is_not_compressed(size: int) -> None:
    assert encode(noise(size), DType.BYTES).codec is CodecId.RAW


def test_text_in_the_middle_of_noise_is_found() -> None:
    assert assert_round_trip(noise(1 << 20) + TEXT + noise(1 << 20, 1), DType.BYTES).codec is CodecId.ZSTD


def test_noise_after_samples_of_text_is_at_worst_as_large_as_it_was() -> None:
    data = np.frombuffer(noise(1 << 22), "u1").copy()
    length = data.size // 64 // 8
    gap = (data.size - length) // 7
    for number in range(8):
        data[number * gap : number * gap + length] = 65
    assert_round_trip(data.tobytes(), DType.BYTES)


def test_quantised_weights_are_coded_by_their_frequencies() -> None:
    levels = np.clip(np.random.default_rng(0).standard_normal(1 << 20) * 12, -127, 127).astype("i1")
    encoded = assert_round_trip(levels.tobytes(), DType.I8)
    counts = np.bincount(levels.view("u1"), minlength=256)
    shares = counts[counts > 0] / levels.size
    entropy = float(-(shares * np.log2(shares)).sum() / 8)
    assert encoded.size / levels.size < entropy * 1.01
