"""A chunk stored by how it differs from what is expected of it: the part that every codec with bases shares.

A prediction is made of the bases alone, so the reader makes the same one. What is stored is a header that says how, the
residual, and the bytes behind the last whole word as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from shardflow.codec import edges, residual, sparse
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import CodecId, Encoded
from shardflow.codec.runs import OutOfRoom, RunReader, RunWriter
from shardflow.errors import CorruptData
from shardflow.loans import BufferPool, copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardflow.codec.kernels.contract import Words
    from shardflow.codec.numbers import Number

    Read = Callable[[RunReader, Words, Number, Words], None]

SAMPLE = 16 << 10  # words, in a few slices of twice as many or more

_SLICES = 32
_WORTH_LISTING = 4 * SAMPLE  # words: of fewer, all that are in changed blocks have steps
_SURPRISE, _SURPRISING_BYTES = 1.5, 1 << 10  # beyond what a sample promised, which shows that it was not typical

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


class Outlook(NamedTuple):
    """What a sample says: about the bytes of the encoding, and from where on words are listed, if they are."""

    size: int
    edge: edges.Edge | None
    seen: residual.Look | None = None


def look(data: memoryview, prediction: Prediction) -> Outlook:
    """About the size of the encoding, and how to go about it, from a sample."""
    number = prediction.number
    words = np.frombuffer(data, number.dtype, len(data) // number.width)
    picked, expected = _picked(words, prediction)
    edge = edges.find(picked, expected, number) if _may_be_listed(words, prediction) else None
    if edge:
        return Outlook(int(edge.bits * words.size / 8), edge)
    seen = residual.look(picked, expected, number, words.size)
    return Outlook(int(seen.bits / 8), None, seen)


def encode(data: memoryview, prediction: Prediction, limit: int, outlook: Outlook | None = None) -> Encoded | None:
    """The encoding of `data`, or None if it takes more than `limit` bytes."""
    number = prediction.number
    words = np.frombuffer(data, number.dtype, len(data) // number.width)
    edge = outlook.edge if outlook else None
    if not outlook and _may_be_listed(words, prediction):
        edge = edges.find(*_picked(words, prediction), number)
    if edge:
        encoded = _encoded(data, prediction, limit, edge)
        if encoded and encoded.size <= _SURPRISE * edge.bits * words.size / 8 + _SURPRISING_BYTES:
            return encoded
        limit = encoded.size if encoded else limit
        return _encoded(data, prediction, limit, None) or encoded
    return _encoded(data, prediction, limit, None, outlook.seen if outlook else None)


def _encoded(
    data: memoryview, prediction: Prediction, limit: int, edge: edges.Edge | None, seen: residual.Look | None = None
) -> Encoded | None:
    number = prediction.number
    count = len(data) // number.width
    words = np.frombuffer(data, number.dtype, count)
    writer = RunWriter(scratch("stored", max(limit, 0)).data)
    try:
        writer.put(prediction.header())
        if edge is None:
            residual.write(words, prediction.words(0, count), number, writer, seen)
        else:
            sparse.write(words, prediction.words(0, count), number, edge.exponent, writer)
        writer.put(data[count * number.width :])
    except OutOfRoom:
        return None
    stored = _pool.lend(len(writer.written))
    copy(writer.written.data, stored)
    return Encoded(prediction.codec if edge is None else CodecId.SPARSE, (stored,), len(stored))


def decode(reader: RunReader, prediction: Prediction, out: memoryview, read: Read = residual.read) -> None:
    """Fill `out` from what follows the header."""
    number = prediction.number
    count = len(out) // number.width
    whole = count * number.width
    read(reader, prediction.words(0, count), number, np.frombuffer(out[:whole], number.dtype))
    tail = reader.rest()
    if len(tail) != len(out) - whole:
        raise CorruptData(f"{len(tail)} bytes lie behind the last word where {len(out) - whole} belong")
    out[whole:] = tail


def _may_be_listed(words: Words, prediction: Prediction) -> bool:
    return prediction.codec is CodecId.DELTA and words.size >= _WORTH_LISTING


def _picked(words: Words, prediction: Prediction) -> tuple[Words, Words]:
    """Words in a few slices, evenly spread from the first to the last, and what is expected of them."""
    length = SAMPLE // _SLICES
    firsts = range(0, words.size - length + 1, (words.size - length) // (_SLICES - 1))
    picked = np.concatenate([words[first : first + length] for first in firsts])
    return picked, np.concatenate([prediction.words(first, length).copy() for first in firsts])
