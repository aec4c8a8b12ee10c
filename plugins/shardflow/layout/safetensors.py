"""Safetensors: a length, a JSON header that places every tensor, the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shardflow.dtype import DType
from shardflow.layout.model import (
    MOST_TENSORS,
    Damaged,
    Layout,
    ReadAt,
    Segment,
    Tensor,
    dense_length,
    exactly,
    lay_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_HEADER = 32 << 20  # a tensor takes about 130 bytes; the format itself would allow 100 MB

# F4, F6, F8_E8M0 and whatever comes later stay bytes with a name and a shape.
_DTYPES = {
    "F64": DType.F64,
    "F32": DType.F32,
    "F16": DType.F16,
    "BF16": DType.BF16,
    "F8_E4M3": DType.F8_E4M3,
    "F8_E5M2": DType.F8_E5M2,
    "I64": DType.I64,
    "I32": DType.I32,
    "I16": DType.I16,
    "I8": DType.I8,
    "U64": DType.U64,
    "U32": DType.U32,
    "U16": DType.U16,
    "U8": DType.U8,
    "BOOL": DType.BOOL,
    "C64": DType.C64,
}


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


_HEADER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)


def begins(head: bytes) -> bool:
    """Whether these could be the first bytes: a length that a header can have, then an object."""
    return 2 <= int.from_bytes(head[:8], "little") <= LARGEST_HEADER and head[8:9] == b"{"


def parse(read_at: ReadAt, size: int) -> Layout:
    """Every tensor a segment; the header, padding included, the plain bytes before them."""
    length = int.from_bytes(exactly(read_at, 0, 8, size), "little")
    header = exactly(read_at, 8, length, size)
    if header.count(b":") > 5 * MOST_TENSORS:
        raise Damaged("more tensors than any model has")
    try:
        entries = _HEADER.decode(header)
        entries.pop("__metadata__", None)
        found = [_segment(name, _ENTRY.decode(raw), 8 + length) for name, raw in entries.items()]
    except msgspec.MsgspecError as error:
        raise Damaged("not a header of tensors") from error
    _require_no_holes(found, 8 + length, size)
    return lay_out("safetensors", size, found, [Tensor(at.name, at.dtype, at.shape) for at in found])


def _segment(name: str, entry: _Entry, base: int) -> Segment:
    begin, end = entry.data_offsets
    dtype = _DTYPES.get(entry.dtype, DType.BYTES)
    dense = dense_length(dtype, entry.shape)
    if not name or begin < 0 or end < begin or (dtype is not DType.BYTES and dense != end - begin):
        raise Damaged(f"{name!r} is {end - begin} bytes where its shape needs {dense}")
    return Segment(base + begin, end - begin, dtype, name, tuple(entry.shape))


def _require_no_holes(found: Iterable[Segment], base: int, size: int) -> None:
    """The format forbids holes, which is also how a name that occurs twice shows: its first tensor is missing."""
    if base + sum(segment.length for segment in found) != size:
        raise Damaged("the tensors do not fill the file")
