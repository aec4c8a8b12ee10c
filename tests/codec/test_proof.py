"""What is stored leads back to the data, or it is not stored."""

from __future__ import annotations

import numpy as np
import pytest

from codec.cases import joined
from codec.pairs import neighbours
from shardflow.codec import CodecId, encode, encode_against, leads_to, unchanged
from shardflow.dtype import DType

WORDS = 100_003


@pytest.fixture(scope="module")
def versions() -> tuple[bytes, bytes]:
    return neighbours(DType.F32, WORDS)


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_an_encoding_leads_to_its_data_and_to_no_other(versions: tuple[bytes, bytes]) -> None:
    base, data = versions
    chosen = encode_against(data, DType.F32, [unchanged(base, DType.F32)])
    stored = joined(chosen.encoded)
    assert chosen.encoded.codec is CodecId.DELTA
    assert leads_to(CodecId.DELTA, stored, data, [base])
    for at in (0, 1, len(data) // 2, len(data) - 4, len(data) - 1):
        assert not leads_to(CodecId.DELTA, stored, flipped(data, at), [base])


def test_a_base_that_is_another_leads_elsewhere(versions: tuple[bytes, bytes]) -> None:
    base, data = versions
    stored = joined(encode_against(data, DType.F32, [unchanged(base, DType.F32)]).encoded)
    assert not leads_to(CodecId.DELTA, stored, data, [flipped(base, 2)])


def test_what_does_not_decode_leads_nowhere(versions: tuple[bytes, bytes]) -> None:
    base, data = versions
    stored = joined(encode_against(data, DType.F32, [unchanged(base, DType.F32)]).encoded)
    assert not leads_to(CodecId.DELTA, stored[:-1], data, [base])
    assert not leads_to(CodecId.DELTA, stored, data[:-4], [base])
    assert not leads_to(CodecId.RAW, data, data[:-1])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 70_001])
def test_every_byte_counts_whatever_the_size(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 4, size, np.uint8).tobytes()
    encoded = encode(data, DType.BYTES)
    assert leads_to(encoded.codec, joined(encoded), data)
    for at in range(max(0, size - 9), size):
        assert not leads_to(encoded.codec, joined(encoded), flipped(data, at))


def test_a_prediction_must_be_worth_it(versions: tuple[bytes, bytes]) -> None:
    base, data = versions
    prediction = unchanged(base, DType.F32)
    share = encode_against(data, DType.F32, [prediction]).encoded.size / encode(data, DType.F32).size
    assert encode_against(data, DType.F32, [prediction], share + 0.02).prediction is prediction
    assert encode_against(data, DType.F32, [prediction], share - 0.02).prediction is None
