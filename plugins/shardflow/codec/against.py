"""Encode a chunk against others that the reader will have: which prediction serves it best, if any."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shardflow.codec import chunks, predicted, streams
from shardflow.codec.encoded import flat
from shardflow.codec.numbers import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.codec.encoded import Encoded
    from shardflow.codec.predicted import Prediction
    from shardflow.dtype import DType

_WORTH_SAMPLING = 32 * predicted.SAMPLE  # what has fewer is encoded in every way there is
_SMALL_SAMPLE = 2 << 10  # words, which tell when a chunk by itself takes
_NOT_FAR = 0.75  # of what it takes by itself: what takes less by a prediction needs no better estimate
_CLEARLY = 0.9  # of an estimate: what comes out below needs no comparison with what was estimated


class Chosen(NamedTuple):
    """An encoding, and the prediction that it rests on; None where the chunk is better off by itself."""

    encoded: Encoded
    prediction: Prediction | None


def encode_against(data: Buffer, dtype: DType, predictions: Sequence[Prediction], worth: float = 1.0) -> Chosen:
    """The smallest encoding of `data`, by itself or by one of the predictions, which are made for this chunk.

    A prediction must leave less than `worth` of what the chunk takes by itself. Large chunks are tried on a sample
    first. The result is never larger than `data`, and never larger than what `encode` gives unless that sample was
    wrong about it by a tenth.
    """
    view = flat(data)
    for prediction in predictions:
        if prediction.size != len(view) or prediction.number != number_of(dtype):
            raise ValueError(f"a prediction of {prediction.size} bytes is not one of {len(view)} bytes of {dtype.name}")
    if len(view) < _WORTH_SAMPLING * number_of(dtype).width:
        return _smallest(view, dtype, predictions, worth)
    looks = [predicted.look(view, each) for each in predictions]
    best = min(range(len(looks)), key=lambda n: looks[n].size, default=None)
    alone = _estimate_alone(view, dtype, _SMALL_SAMPLE)
    if best is None or looks[best].size >= _NOT_FAR * worth * alone:
        alone = _estimate_alone(view, dtype, predicted.SAMPLE)
    if best is None or looks[best].size >= worth * alone:
        return Chosen(chunks.encode(view, dtype), None)
    encoded = predicted.encode(view, predictions[best], len(view), looks[best])
    if encoded and encoded.size < _CLEARLY * worth * alone:
        return Chosen(encoded, predictions[best])
    by_itself = chunks.encode(view, dtype)  # the estimate is too close to rely on
    if encoded and encoded.size < worth * by_itself.size:
        return Chosen(encoded, predictions[best])
    return Chosen(by_itself, None)


def estimate(data: Buffer, dtype: DType, prediction: Prediction | None = None) -> int:
    """About the bytes that an encoding of `data` takes, by itself or by a prediction; quick on large chunks."""
    view = flat(data)
    number = number_of(dtype)
    if len(view) < _WORTH_SAMPLING * number.width:
        encoded = predicted.encode(view, prediction, len(view)) if prediction else chunks.encode(view, dtype)
        return encoded.size if encoded else len(view)
    if prediction:
        return predicted.look(view, prediction).size
    return _estimate_alone(view, dtype, predicted.SAMPLE)


def _estimate_alone(view: memoryview, dtype: DType, sample: int) -> int:
    number = number_of(dtype)
    words = np.frombuffer(view, number.dtype, len(view) // number.width)
    picked = streams.sample(words, sample)
    return chunks.encode(picked.data, dtype).size * words.size // picked.size


def _smallest(view: memoryview, dtype: DType, predictions: Sequence[Prediction], worth: float) -> Chosen:
    best = Chosen(chunks.encode(view, dtype), None)
    alone = math.ceil(worth * best.encoded.size)
    for prediction in predictions:
        encoded = predicted.encode(view, prediction, min(alone, best.encoded.size) - 1)
        if encoded:
            best = Chosen(encoded, prediction)
    return best
