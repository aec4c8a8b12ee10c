"""How tensors are cut into zarr chunks and coded: the plain way, the way of T5X, and the fast one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from shardflow.flavor.formats.bits import NUMPY_NAMES
from shardflow.flavor.tensors import BYTES_OF, TensorInfo

PLAIN_EXTENT = 64
T5X_BYTES = 64 << 20
T5X_AT_ONCE = 128
FAST_BYTES = 4 << 20

Shape = tuple[int, ...]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """What distinguishes one way of writing zarr arrays from another."""

    name: str
    driver: str  # zarr (version 2) or zarr3
    chunk: Callable[[TensorInfo], Shape]
    at_once: int  # tensors that are written or read at the same time
    codec: Json | None = None  # the compressor of version 2; None: what tensorstore takes by itself
    coded: bool = False  # whether chunks are coded here, and not by tensorstore


def plain_chunk(info: TensorInfo) -> Shape:
    """64 elements along every dimension."""
    return tuple(min(extent, PLAIN_EXTENT) or 1 for extent in info.shape)


def t5x_chunk(info: TensorInfo) -> Shape:
    """The largest dimension divided by its divisors, again and again, until a chunk is at most 64 MiB."""
    chunk = [extent or 1 for extent in info.shape]
    width = BYTES_OF[info.dtype]
    while prod(chunk) * width > T5X_BYTES and max(chunk) > 1:
        widest = chunk.index(max(chunk))
        needed = min(chunk[widest], ceil(prod(chunk) * width / T5X_BYTES))
        chunk[widest] //= _divisor(chunk[widest], needed)
    return tuple(chunk)


def fast_chunk(info: TensorInfo) -> Shape:
    """Runs of rows of 4 MiB, even in size, so that a chunk is one run of the tensor's bytes."""
    chunk = [extent or 1 for extent in info.shape]
    limit = FAST_BYTES // BYTES_OF[info.dtype]
    for place, extent in enumerate(chunk):
        row = prod(chunk[place + 1 :])
        if row <= limit:
            chunk[place] = ceil(extent / ceil(extent * row / limit))
            break
        chunk[place] = 1
    return tuple(chunk)


def version_2(info: TensorInfo, chunk: Shape, codec: Json | None) -> Json:
    """Metadata of a zarr array of version 2."""
    made: Json = {"shape": list(info.shape), "chunks": list(chunk)}
    return made if codec is None else made | {"compressor": codec}


def version_3(info: TensorInfo, chunk: Shape, codecs: list[Json]) -> Json:
    """Metadata of a zarr array of version 3, its chunks beside each other in one directory."""
    return {
        "shape": list(info.shape),
        "data_type": NUMPY_NAMES[info.dtype],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs],
    }


def _divisor(extent: int, least: int) -> int:
    """The smallest divisor of an extent that is at least so large."""
    return next(number for number in range(max(2, least), extent + 1) if extent % number == 0)


PLAIN = Layout("tensorstore", "zarr", plain_chunk, at_once=1)
T5X = Layout("tensorstore-t5x", "zarr", t5x_chunk, at_once=T5X_AT_ONCE, codec={"id": "gzip", "level": 1})
FAST = Layout("tensorstore-fast", "zarr3", fast_chunk, at_once=1 << 20, coded=True)
