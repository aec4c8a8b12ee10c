"""A chunk stored by how it differs from what is expected of it: the part that every codec with bases shares.

A prediction is made of the bases alone, so the reader makes the same one. What is stored is a header that says how, the
residual, and the bytes behind the last whole word as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from shardflow.codec import residual
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import CodecId, Encoded
from shardflow.codec.runs import OutOfRoom, RunReader, RunWriter
from shardflow.errors import CorruptData
from shardflow.loans import BufferPool

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number

_SLICES = 32

_pool = BufferPool()


class Prediction(Protocol):
    """What a chunk is expected to be. The bases are given to `decode` in the order in which the prediction has them."""

    @property
    def codec(self) -> CodecId: ...

    @property
    def number(self) -> Number:
        """How the words of the chunk are counted."""

    @property
    def size(self) -> int:
        """The bytes of the chunks that this is a prediction for."""

    def header(self) -> bytes:
        """What a reader needs to know to predict the same words."""

    def words(self, first: int, count: int) -> Words:
        """Some of the predicted words; they may lie in this thread's work space."""


def encode(data: memoryview, prediction: Prediction, limit: int) -> Encoded | None:
    """The encoding of `data`, or None if it takes more than `limit` bytes."""
    number = prediction.number
    count = len(data) // number.width
    words = np.frombuffer(data, number.dtype, count)
    writer = RunWriter(scratch("stored", max(limit, 0)).data)
    try:
        writer.put(prediction.header())
        residual.write(words, prediction.words(0, count), number, writer)
        writer.put(data[count * number.width :])
    except OutOfRoom:
        return None
    stored = _pool.lend(len(writer.written))
    stored[:] = writer.written
    return Encoded(prediction.codec, (stored,), len(stored))


def decode(reader: RunReader, prediction: Prediction, out: memoryview) -> None:
    """Fill `out` from what follows the header."""
    number = prediction.number
    count = len(out) // number.width
    whole = count * number.width
    residual.read(reader, prediction.words(0, count), number, np.frombuffer(out[:whole], number.dtype))
    tail = reader.rest()
    if len(tail) != len(out) - whole:
        raise CorruptData(f"{len(tail)} bytes lie behind the last word where {len(out) - whole} belong")
    out[whole:] = tail


def sampled_size(data: memoryview, prediction: Prediction, sample: int) -> int:
    """About the size of the encoding, from that of `sample` words in a few slices of more than twice as many."""
    number = prediction.number
    count = len(data) // number.width
    words = np.frombuffer(data, number.dtype, count)
    length = sample // _SLICES
    firsts = range(0, count - length + 1, (count - length) // (_SLICES - 1))
    picked = np.concatenate([words[first : first + length] for first in firsts])
    expected = np.concatenate([prediction.words(first, length).copy() for first in firsts])
    writer = RunWriter(scratch("stored", 2 * picked.nbytes).data)
    residual.write(picked, expected, number, writer)
    return len(writer.written) * count // picked.size
