"""The parts of a file, in order and without gaps, and how a format's findings become them.

The fingerprint is BLAKE3 over all tensors, sorted by name: for each the length of its name (u32), the name in UTF-8,
the code of its dtype (u8), the number of dimensions (u32) and every dimension (u64), all little-endian. It does not
depend on the format, so the same model as safetensors and as a torch file is found to be the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ReadAt = Callable[[int, int], bytes]  # (offset, length) -> exactly that many bytes

MOST_TENSORS = 1 << 18  # a header that declares more is not one that a model wrote
_MOST_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes of one kind. A tensor's shape is the one in memory, last dimension fastest."""

    offset: int
    length: int
    dtype: DType
    name: str  # empty: not a tensor
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All of a file. Tensors without elements count in the fingerprint but have no segment."""

    kind: str
    segments: tuple[Segment, ...]
    fingerprint: bytes | None  # None: no tensors


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a model calls a tensor: the part of it that survives a change of file format."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class Damaged(Exception):
    """The content is not what its first bytes promise, or asks for more memory than a header deserves."""


def plain(size: int) -> Layout:
    """A file without known structure."""
    return Layout("plain", _without_gaps((), size), None)


def lay_out(kind: str, size: int, found: Iterable[Segment], tensors: Iterable[Tensor]) -> Layout:
    """The layout of a file of `size` bytes in which `found` lie; what is between them is plain bytes."""
    return Layout(kind, _without_gaps(found, size), _fingerprint(tensors))


def dense_length(dtype: DType, shape: Sequence[Any]) -> int:
    """The bytes of a tensor whose elements lie side by side."""
    if len(shape) > _MOST_DIMENSIONS or not all(isinstance(extent, int) and 0 <= extent < 1 << 63 for extent in shape):
        raise Damaged(f"not a shape: {shape[:_MOST_DIMENSIONS]}")
    count: int = prod(shape)
    return count * dtype.width


def exactly(read_at: ReadAt, offset: int, length: int, size: int) -> bytes:
    """Bytes that must be inside the file."""
    if offset < 0 or length < 0 or offset + length > size:
        raise Damaged(f"points at {offset} to {offset + length} of {size} bytes")
    data = bytes(read_at(offset, length)) if length else b""
    if len(data) != length:
        raise Damaged(f"only {len(data)} of {length} bytes at {offset}")
    return data


def _without_gaps(found: Iterable[Segment], size: int) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    names: set[str] = set()
    end = 0
    for segment in sorted(found, key=lambda segment: segment.offset):
        if segment.length == 0:
            continue
        if segment.length < 0 or segment.offset < end or segment.offset + segment.length > size:
            raise Damaged(f"{segment.name!r} overlaps its neighbour or the end of the file")
        if segment.name in names:
            raise Damaged(f"two tensors are called {segment.name!r}")
        names.add(segment.name)
        if segment.offset > end:
            segments.append(Segment(end, segment.offset - end, DType.BYTES, "", ()))
        segments.append(segment)
        end = segment.offset + segment.length
    if end < size:
        segments.append(Segment(end, size - end, DType.BYTES, "", ()))
    return tuple(segments)


def _fingerprint(tensors: Iterable[Tensor]) -> bytes | None:
    rows = sorted((tensor.name.encode(), tensor.dtype.code, tensor.shape) for tensor in tensors)
    if not rows:
        return None
    digest = blake3()
    for name, code, shape in rows:
        digest.update(struct.pack("<I", len(name)) + name)
        digest.update(struct.pack(f"<BI{len(shape)}Q", code, len(shape), *shape))
    return digest.digest()
