"""One run of bytes coded alone: constant, as it is, by byte frequencies, or with repetitions; chosen on a sample."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from shardflow.codec import frames

if TYPE_CHECKING:
    from shardflow.codec.buffers import Bytes

_SAMPLE = 16 << 10
_SLICES = 8
_BEGIN = 256

Values = TypeVar("Values", bound=npt.NDArray[Any])


class Way(Enum):
    """How to code a run of bytes."""

    CONSTANT = 0
    RAW = 1
    HUFFMAN = 2
    MATCHES = 3


class Trial(NamedTuple):
    """What the sample says: the way to take, and the size that the sample had that way."""

    way: Way
    size: int


def worth(size: int, of: int) -> bool:
    """Saving less than a 64th is not worth the time it takes to undo."""
    return size < of - of // 64


def sample(values: Values, count: int = _SAMPLE) -> Values:
    """About `count` elements in a few slices, evenly spread from the first element to the last."""
    if values.size <= count:
        return values
    length = count // _SLICES
    gap = (values.size - length) // (_SLICES - 1)
    slices = [values[start : start + length] for start in range(0, gap * _SLICES, gap)]
    return np.concatenate(slices)  # type: ignore[return-value]


def is_constant(data: Bytes) -> bool:
    begin = data[:_BEGIN]  # hardly ever constant where the rest is not
    return bool((begin == data[0]).all()) and bool((data == data[0]).all())


def try_ways(data: Bytes) -> Trial:
    """The best way for a sample; finding repetitions costs many times as much and must pay by an eighth."""
    if is_constant(data):
        return Trial(Way.CONSTANT, 1)
    frequencies, repetitions = len(frames.by_huffman(data.data)), len(frames.by_matches(data.data))
    if repetitions < frequencies - frequencies // 8:
        best = Trial(Way.MATCHES, repetitions)
    else:
        best = Trial(Way.HUFFMAN, frequencies)
    return best if worth(best.size, data.size) else Trial(Way.RAW, data.size)
