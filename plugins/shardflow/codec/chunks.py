"""Encode and decode one chunk: which codec serves it, and what is checked whatever the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import casts, delta, frames, merges, plain, planes
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import CodecId, Encoded, as_stored, flat
from shardflow.codec.words import form_of
from shardflow.errors import CorruptData
from shardflow.loans import copy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from shardflow.dtype import DType

_SMALLEST = 64  # with tables and headers, fewer bytes never get smaller
_COMPARED = 8  # bytes at a time
_NEED_BASES: dict[int, Callable[[memoryview, memoryview, list[memoryview]], None]] = {
    CodecId.DELTA: delta.decode,
    CodecId.SPARSE: delta.decode_sparse,
    CodecId.CAST: casts.decode,
    CodecId.LOWRANK: merges.decode,
}


def encode(data: Buffer, dtype: DType) -> Encoded:
    """The encoding of `data` that pays on a sample of it; never larger than `data`."""
    view = flat(data)
    if len(view) < _SMALLEST:
        return as_stored(view)
    form = form_of(dtype)
    in_planes = planes.encode(view, form) if form else None
    return in_planes or plain.encode(view)


def decode(codec: int, stored: Buffer, out: memoryview, bases: Sequence[Buffer] = ()) -> None:
    """Fill `out`, which has exactly the size of what was encoded, or raise CorruptData and leave anything in it.

    `bases` are the plain bytes of the chunks that it was encoded against, in the same order; most codecs have none.
    """
    source, target = flat(stored), flat(out)
    if codec in _NEED_BASES:
        _NEED_BASES[codec](source, target, [flat(base) for base in bases])
    elif bases:
        raise CorruptData(f"codec {codec} takes no bases, and {len(bases)} were named")
    elif codec == CodecId.RAW:
        _copy(source, target)
    elif codec == CodecId.ZSTD:
        frames.read_frame(source, target)
    elif codec == CodecId.PLANES:
        planes.decode(source, target)
    else:
        raise CorruptData(f"codec {codec} is not known here", remedy="read it with the release that wrote it")


def leads_to(codec: int, stored: Buffer, data: Buffer, bases: Sequence[Buffer] = ()) -> bool:
    """Whether decoding gives `data`, to the last bit: every byte that a reader will get is made and compared."""
    wanted = np.frombuffer(flat(data), np.uint8)
    found = scratch("proof", wanted.size)
    try:
        decode(codec, stored, found.data, bases)
    except CorruptData:
        return False
    whole = wanted.size // _COMPARED * _COMPARED
    same = (found[:whole].view(np.uint64) == wanted[:whole].view(np.uint64)).all()
    return bool(same) and bool((found[whole:] == wanted[whole:]).all())


def _copy(source: memoryview, target: memoryview) -> None:
    if len(source) != len(target):
        raise CorruptData(f"{len(source)} bytes are stored where {len(target)} belong")
    copy(source, target)
