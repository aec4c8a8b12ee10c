"""The delta and sparse codecs: a chunk predicted to be what its base is, the chunk that was there a version earlier."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import predicted, sparse
from shardflow.codec.encoded import CodecId, flat
from shardflow.codec.numbers import EVERY_NUMBER, Number, number_of
from shardflow.codec.runs import RunReader
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.codec.kernels.contract import Words
    from shardflow.dtype import DType

_HEADER = struct.Struct("<BB")  # width, mantissa


@dataclass(frozen=True, slots=True)
class _Unchanged:
    base: memoryview
    number: Number

    @property
    def codec(self) -> CodecId:
        return CodecId.DELTA

    @property
    def size(self) -> int:
        return len(self.base)

    def header(self) -> bytes:
        return _HEADER.pack(self.number.width, self.number.mantissa)

    def words(self, first: int, count: int) -> Words:
        return np.frombuffer(self.base, self.number.dtype, count, first * self.number.width)


def unchanged(base: Buffer, dtype: DType) -> predicted.Prediction:
    """That a chunk of this element type is what `base` is, or near it; it has one base, as long as itself."""
    return _Unchanged(flat(base), number_of(dtype))


def decode(stored: memoryview, out: memoryview, bases: Sequence[memoryview]) -> None:
    """Fill `out` from its one base and how it differs from it."""
    reader, prediction = _begun(stored, out, bases)
    predicted.decode(reader, prediction, out)


def decode_sparse(stored: memoryview, out: memoryview, bases: Sequence[memoryview]) -> None:
    """The same where few words changed, of which some are listed."""
    reader, prediction = _begun(stored, out, bases)
    predicted.decode(reader, prediction, out, sparse.read)


def _begun(stored: memoryview, out: memoryview, bases: Sequence[memoryview]) -> tuple[RunReader, _Unchanged]:
    if len(bases) != 1 or len(bases[0]) != len(out):
        raise CorruptData(f"a delta of {len(out)} bytes needs one base as long, not {[len(base) for base in bases]}")
    reader = RunReader(stored)
    number = Number(*_HEADER.unpack(reader.take(_HEADER.size)))
    if number not in EVERY_NUMBER:
        raise CorruptData(f"words of {number.width} bytes with {number.mantissa} bits of mantissa are not known here")
    return reader, _Unchanged(bases[0], number)
