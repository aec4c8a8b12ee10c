"""What a file is compared with: another file, of which runs can be had as pieces that encodings may rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from shardflow.codec import Prediction
from shardflow.layout import Layout


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that an encoding rests on."""

    key: int | None  # what its file knows it by; None: made for the encoding, and to be kept with it
    data: memoryview
    below: int = 0  # bytes that are decoded before it


class Placed(NamedTuple):
    """A piece, and where in its file it begins."""

    start: int
    piece: Piece


class BaseFile(Protocol):
    """A file that the reader will have as well."""

    @property
    def layout(self) -> Layout: ...

    @property
    def at_hand(self) -> bool:
        """Whether pieces cost next to nothing, as those that are in memory."""

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Some of its bytes, as `inspect` reads them."""

    def pieces(self, start: int, end: int, /) -> list[Placed]:
        """Pieces, back to back, that cover a run of the file; fewer where a part of it may not be used."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A prediction of a chunk, and the pieces it is made of, in the order in which a decoder gets them."""

    prediction: Prediction
    bases: tuple[Piece, ...]
