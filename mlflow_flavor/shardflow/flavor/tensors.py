"""What a plan needs to know of a tensor: its name, its size, and whether it is another one under a second name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import prod

from shardflow.flavor.errors import TensorUnusable

BYTES_OF = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2": 1,
    "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "C64": 8,
}
"""Bytes of one element, by the name that safetensors gives a type."""


OTHER_NAME = "give it another name"
_LARGEST = (1 << 63) - 1  # bytes; torch counts as if no dimension were empty


def is_possible(dtype: str, shape: Iterable[int]) -> bool:
    """Whether there can be such a tensor at all, wherever it would be kept."""
    extents = list(shape)
    return min(extents, default=0) >= 0 and prod(max(1, extent) for extent in extents) * BYTES_OF[dtype] <= _LARGEST


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor without its values."""

    name: str
    dtype: str  # as safetensors calls it
    shape: tuple[int, ...]
    identity: Hashable = None  # equal where two tensors are the same memory seen in the same way

    @property
    def size(self) -> int:
        return prod(self.shape) * BYTES_OF[self.dtype]


def require_texts(names: Iterable[str]) -> None:
    """Refuse a name with half of a surrogate pair, which no encoding has."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise TensorUnusable(f"the tensor {name!a} has a name that is no text", remedy=OTHER_NAME) from None


def without_ties(tensors: Iterable[TensorInfo]) -> tuple[list[TensorInfo], dict[str, str]]:
    """Every tensor once, under the first of its names, and which name stands for each of the others."""
    kept: list[TensorInfo] = []
    first: dict[Hashable, str] = {}
    aliases: dict[str, str] = {}
    for tensor in tensors:
        if tensor.identity is None or not tensor.size:
            kept.append(tensor)
        elif tensor.identity in first:
            aliases[tensor.name] = first[tensor.identity]
        else:
            first[tensor.identity] = tensor.name
            kept.append(tensor)
    return kept, aliases
