"""The head of a safetensors file: made for a shard that is to be written, and read with distrust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import msgspec

from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.tensors import BYTES_OF, TensorInfo, is_possible
from shardflow.layout import ReadAt

LARGEST_HEADER = 100 << 20  # what the format allows
NOT_A_TENSOR = "__metadata__"  # what the header calls the texts that its writer adds
_ALIGNED = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file; `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Header:
    """Every tensor of a file, and the texts its writer added."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]


class _Stored(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def made_header(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the first tensor, for tensors that follow each other in this order."""
    table: dict[str, object] = {NOT_A_TENSOR: dict(metadata)}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size
        table[tensor.name] = _Stored(tensor.dtype, tensor.shape, (begin, end))
    text = msgspec.json.encode(table)
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def in_file_order(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Wide elements first, so that every tensor begins at a multiple of its element."""
    return sorted(tensors, key=lambda tensor: -BYTES_OF[tensor.dtype])


def read_header(read_at: ReadAt, size: int, name: str) -> Header:
    """The tensors of a file, every one of them inside it."""
    length = int.from_bytes(read_at(0, 8), "little")
    if size < 8 or length > min(LARGEST_HEADER, size - 8):
        raise _unusable(name, "its header does not fit into it")
    try:
        table = decoded(read_at(8, length), dict[str, msgspec.Raw])
        metadata = decoded(table.pop(NOT_A_TENSOR, msgspec.Raw(b"{}")), dict[str, str])
        stored = {tensor: decoded(raw, _Stored) for tensor, raw in table.items()}
    except Undecodable:
        raise _unusable(name, "its header is not one of tensors") from None
    base = 8 + length
    return Header(
        {tensor: _entry(entry, base, size, f"{name}: {tensor}") for tensor, entry in stored.items()}, metadata
    )


def _entry(stored: _Stored, base: int, size: int, name: str) -> Entry:
    begin, end = stored.data_offsets
    if stored.dtype not in BYTES_OF:
        raise _unusable(name, f"elements of type {stored.dtype} are not known here")
    if not 0 <= begin <= end <= size - base:
        raise _unusable(name, "it lies outside of the file")
    if not is_possible(stored.dtype, stored.shape):
        raise _unusable(name, f"there can be no tensor of the shape {list(stored.shape)}")
    if prod(stored.shape) * BYTES_OF[stored.dtype] != end - begin:
        raise _unusable(name, f"its {end - begin} bytes are not what its shape needs")
    return Entry(stored.dtype, stored.shape, base + begin, end - begin)


def _unusable(name: str, why: str) -> CheckpointUnusable:
    return CheckpointUnusable(f"{name} is no safetensors file: {why}", remedy="write it again, or name another file")
