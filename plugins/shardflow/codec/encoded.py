"""What an encoding is: its number in stored data, and the bytes it produced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_BYTES = 64 << 20
"""The most one call encodes or decodes. Chunks are at most 4 MiB; the rest is room for settings, not a goal."""


class CodecId(IntEnum):
    """How a chunk is stored. The numbers are part of the store's format; 16 and above need other chunks as bases."""

    RAW = 0
    ZSTD = 1
    PLANES = 2
    DELTA = 16
    SPARSE = 17
    CAST = 18
    LOWRANK = 19


def flat(data: Buffer) -> memoryview:
    """The bytes of a chunk, or of a base, whatever holds them."""
    view = memoryview(data)
    if not view.c_contiguous or view.nbytes > MAX_BYTES:
        raise ValueError(f"a chunk is at most {MAX_BYTES} bytes in one piece")
    return view.cast("B")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded chunk. Raw parts are views on the input and live as long as it does; others own their memory."""

    codec: CodecId
    parts: tuple[Buffer, ...]
    size: int  # the sum of the parts' lengths


def as_stored(view: memoryview) -> Encoded:
    """The bytes themselves, not copied."""
    return Encoded(CodecId.RAW, (view,), len(view))
