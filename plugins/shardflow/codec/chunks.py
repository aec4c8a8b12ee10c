"""Encode and decode one chunk: which codec serves it, and what is checked whatever the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardflow.codec import frames, plain, planes
from shardflow.codec.encoded import MAX_BYTES, CodecId, Encoded, as_stored
from shardflow.codec.words import form_of
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.dtype import DType

_SMALLEST = 64  # with tables and headers, fewer bytes never get smaller


def encode(data: Buffer, dtype: DType) -> Encoded:
    """The encoding of `data` that pays on a sample of it; never larger than `data`."""
    view = _flat(data)
    if len(view) < _SMALLEST:
        return as_stored(view)
    form = form_of(dtype)
    in_planes = planes.encode(view, form) if form else None
    return in_planes or plain.encode(view)


def decode(codec: int, stored: Buffer, out: memoryview, bases: Sequence[Buffer] = ()) -> None:
    """Fill `out`, which has exactly the size of what was encoded, or raise CorruptData and leave anything in it.

    No codec here needs bases.
    """
    source, target = _flat(stored), _flat(out)
    if bases:
        raise CorruptData(f"codec {codec} takes no bases, and {len(bases)} were named")
    if codec == CodecId.RAW:
        _copy(source, target)
    elif codec == CodecId.ZSTD:
        frames.read_frame(source, target)
    elif codec == CodecId.PLANES:
        planes.decode(source, target)
    else:
        raise CorruptData(f"codec {codec} is not known here", remedy="read it with the release that wrote it")


def _flat(data: Buffer) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous or view.nbytes > MAX_BYTES:
        raise ValueError(f"a chunk is at most {MAX_BYTES} bytes in one piece")
    return view.cast("B")


def _copy(source: memoryview, target: memoryview) -> None:
    if len(source) != len(target):
        raise CorruptData(f"{len(source)} bytes are stored where {len(target)} belong")
    target[:] = source
