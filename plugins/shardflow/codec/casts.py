"""The cast codec: a chunk predicted from numbers in another dtype, or scaled, or that lie elsewhere in their chunks.

A model that is stored again as bfloat16 is its float32 rounded; a quantised one is rounded after a multiplication; what
no gradient reached was only multiplied by weight decay, once for every step.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import predicted
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import MAX_BYTES, CodecId, flat
from shardflow.codec.numbers import Number, number_of
from shardflow.codec.rounding import FLOATS, narrowed, widened
from shardflow.codec.runs import RunReader
from shardflow.codec.scales import Scale, check_scale, read_scale, scale_header
from shardflow.dtype import DType
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.codec.kernels.contract import Words

MOST_BASES = 64

_HEADER = struct.Struct("<BBI")  # dtypes from and to, words left out
_AT_ONCE = 64 << 10  # words that are converted in one go, so that they stay near the processor


@dataclass(frozen=True, slots=True)
class _Cast:
    bases: tuple[memoryview, ...]
    source: DType
    target: DType
    left_out: int
    scale: Scale | None
    size: int

    @property
    def codec(self) -> CodecId:
        return CodecId.CAST

    @property
    def number(self) -> Number:
        return number_of(self.target)

    def header(self) -> bytes:
        return _HEADER.pack(self.source.code, self.target.code, self.left_out) + scale_header(self.scale)

    def words(self, first: int, count: int) -> Words:
        if self.source is self.target and not self.scale:
            return self._taken(first, count)
        number = self.number
        out: Words = scratch("cast", count * number.width).view(number.dtype)
        for at in range(0, count, _AT_ONCE):
            part = out[at : at + _AT_ONCE]
            bits = widened(self._taken(first + at, part.size), self.source)
            if self.scale:
                bits = self.scale.applied(bits, first + at)
            part[:] = narrowed(bits, self.target)
        return out

    def _taken(self, first: int, count: int) -> Words:
        """Words of the bases, one behind the other; zeros behind the last."""
        first += self.left_out
        number = number_of(self.source)
        pieces: list[Words] = []
        for base in self.bases:
            piece = np.frombuffer(base, number.dtype, len(base) // number.width)[first:][:count]
            pieces.append(piece)
            count -= piece.size
            first = max(first - len(base) // number.width, 0)
        if count:
            pieces.append(np.zeros(count, number.dtype))
        kept = [piece for piece in pieces if piece.size] or pieces[:1]
        return kept[0] if len(kept) == 1 else np.concatenate(kept)


def cast(
    bases: Sequence[Buffer], source: DType, target: DType, size: int, left_out: int = 0, scale: Scale | None = None
) -> predicted.Prediction:
    """That a chunk of `size` bytes holds what the `bases` hold, behind the first `left_out` words, in another dtype.

    Where the bases end, zeros are expected. With the same dtype twice and no scale, any dtype will do.
    """
    prediction = _Cast(tuple(flat(base) for base in bases), source, target, left_out, scale, size)
    wrong = _wrong_with(prediction)
    if wrong:
        raise ValueError(wrong)
    return prediction


def _wrong_with(prediction: _Cast) -> str:
    if not 0 < len(prediction.bases) <= MOST_BASES:
        return f"a cast needs 1 to {MOST_BASES} bases, not {len(prediction.bases)}"
    is_same = prediction.source is prediction.target and not prediction.scale
    if not is_same and not {prediction.source, prediction.target} <= FLOATS:
        return f"there is no cast from {prediction.source.name} to {prediction.target.name}"
    if not 0 <= prediction.left_out < MAX_BYTES:
        return f"{prediction.left_out} words are more than there can be to leave out"
    return check_scale(prediction.scale, prediction.size // prediction.number.width) if prediction.scale else ""


def decode(stored: memoryview, out: memoryview, bases: Sequence[memoryview]) -> None:
    """Fill `out` from what its bases become in its dtype and how it differs from that."""
    reader = RunReader(stored)
    from_code, to_code, left_out = _HEADER.unpack(reader.take(_HEADER.size))
    try:
        source, target = DType.from_code(from_code), DType.from_code(to_code)
    except KeyError as error:
        raise CorruptData(f"a dtype with the code {error} is not known here") from None
    scale = read_scale(reader, len(out) // number_of(target).width)
    prediction = _Cast(tuple(bases), source, target, left_out, scale, len(out))
    wrong = _wrong_with(prediction)
    if wrong:
        raise CorruptData(wrong)
    predicted.decode(reader, prediction, out)
