"""A file in memory as a base, cut into pieces as a store would cut it."""

from __future__ import annotations

from dataclasses import dataclass, field

from delta.models import laid_out
from shardflow.codec import decode, encode_against
from shardflow.delta.bases import Attempt, Piece, Placed
from shardflow.dtype import DType
from shardflow.layout import Layout


@dataclass
class Local:
    """Pieces are `step` bytes long, counted from the beginning of the file; or exactly what is asked for."""

    file: bytes
    step: int = 0
    at_hand: bool = False
    layout: Layout = field(init=False)
    reads: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = laid_out(self.file)

    def read_at(self, offset: int, length: int, /) -> bytes:
        self.reads.append((offset, length))
        return self.file[offset : offset + length]

    def pieces(self, start: int, end: int, /) -> list[Placed]:
        if not self.step:
            return [Placed(start, Piece(start, memoryview(self.file)[start:end]))]
        firsts = range(start // self.step * self.step, end, self.step)
        return [Placed(first, Piece(first, memoryview(self.file)[first : first + self.step])) for first in firsts]


def best_of(attempts: list[Attempt], data: bytes, dtype: DType) -> float:
    """The share of the chunk that the best attempt leaves, proven by decoding it; 1 if none is better than nothing."""
    chosen = encode_against(data, dtype, [attempt.prediction for attempt in attempts])
    if chosen.prediction is None:
        return 1.0
    attempt = next(each for each in attempts if each.prediction is chosen.prediction)
    out = bytearray(len(data))
    bases = [piece.data for piece in attempt.bases]
    decode(chosen.encoded.codec, b"".join(chosen.encoded.parts), memoryview(out), bases)
    assert out == data
    return chosen.encoded.size / len(data)
