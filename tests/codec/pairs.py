"""Two versions of the same numbers, as training leaves them, and the way from one to the other and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from codec.cases import as_bf16, joined, weights
from shardflow.codec import (
    Chosen,
    CodecId,
    Encoded,
    Prediction,
    decode,
    encode,
    encode_against,
    predicted,
    sparse,
    unchanged,
)
from shardflow.codec.runs import RunWriter
from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOATS = tuple(dtype for dtype in DType if dtype.exponent_bits)
TRAINED = (DType.BF16, DType.F16, DType.F32, DType.F64)


def trained(dtype: DType, count: int, rate: float = 2e-5, share: float = 1.0, seed: int = 0) -> tuple[bytes, bytes]:
    """Weights before and after training: a `share` of them moved by about `rate`, whatever their size."""
    rng = np.random.default_rng(seed)
    before = rng.standard_normal(count) * 0.04
    after = before + rng.standard_normal(count) * rate * (rng.random(count) < share)
    return _as(dtype, before), _as(dtype, after)


def _as(dtype: DType, values: np.ndarray) -> bytes:
    if dtype is DType.BF16:
        return as_bf16(values.astype("<f4")).tobytes()
    return values.astype(f"<f{dtype.width}").tobytes()


def disturbed(data: bytes, share: float, seed: int = 0) -> bytes:
    """The same bytes, but for a share of them that are others now."""
    rng = np.random.default_rng(seed)
    changed = np.frombuffer(data, "u1").copy()
    at = rng.random(changed.size) < share
    changed[at] += rng.integers(1, 4, int(at.sum()), dtype="u1")
    return changed.tobytes()


def neighbours(dtype: DType, count: int, seed: int = 0) -> tuple[bytes, bytes]:
    """Two versions for any element type: floats near each other, or the same numbers but for a few."""
    if dtype in TRAINED:
        return trained(dtype, count, seed=seed)
    base = weights(dtype, count, seed)
    return base, disturbed(base, 0.05, seed)


def restored_from(encoded: Encoded, size: int, bases: Sequence[bytes]) -> bytes:
    """Decoded into the middle of a larger buffer, so that a write past either end shows."""
    room = bytearray(b"\xa5" * (size + 16))
    decode(encoded.codec, joined(encoded), memoryview(room)[7 : 7 + size], bases)
    assert bytes(room[:7]) == b"\xa5" * 7
    assert bytes(room[7 + size :]) == b"\xa5" * 9
    return bytes(room[7 : 7 + size])


def forced(data: bytes, prediction: Prediction) -> Encoded:
    """The encoding by this prediction, whether it pays or not."""
    encoded = predicted.encode(memoryview(data), prediction, 4 * len(data) + 4096)
    assert encoded
    assert encoded.codec in {prediction.codec, CodecId.SPARSE if prediction.codec is CodecId.DELTA else None}
    return encoded


def listed(base: bytes, data: bytes, dtype: DType, edge: int) -> bytes:
    """The stored bytes of the sparse codec, where words that start from exponents below `edge` all have a step."""
    prediction = unchanged(base, dtype)
    number = prediction.number
    count = len(data) // number.width
    writer = RunWriter(memoryview(bytearray(8 * len(data) + 4096)))
    writer.put(prediction.header())
    words = np.frombuffer(data, number.dtype, count)
    sparse.write(words, prediction.words(0, count), number, edge, writer)
    writer.put(data[count * number.width :])
    return bytes(writer.written)


def assert_comes_back(data: bytes, dtype: DType, prediction: Prediction, bases: Sequence[bytes]) -> Chosen:
    """By the prediction, paying or not, and by the best choice, which is never larger than without the prediction."""
    assert restored_from(forced(data, prediction), len(data), bases) == data
    chosen = encode_against(data, dtype, [prediction])
    assert restored_from(chosen.encoded, len(data), bases if chosen.prediction else []) == data
    assert chosen.encoded.size <= encode(data, dtype).size
    return chosen


def assert_delta(base: bytes, data: bytes, dtype: DType) -> Chosen:
    return assert_comes_back(data, dtype, unchanged(base, dtype), [base])


def fraction_of(base: bytes, data: bytes, dtype: DType) -> float:
    return assert_delta(base, data, dtype).encoded.size / len(data)
