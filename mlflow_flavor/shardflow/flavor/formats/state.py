"""Tensors that are to be saved, wherever they are: their names, types and shapes, and any part of one on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol, runtime_checkable

import torch

from shardflow.flavor.checkpoints import state_dict_of
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import BYTES_OF, TensorInfo, without_ties
from shardflow.flavor.torch_types import require_values, shapes_of
from shardflow.store.store import shared_budget

PIECE_BYTES = 32 << 20
_LEAST_PIECE = 4 << 20  # in smaller ones, chunks are decoded again and again


@runtime_checkable
class State(Protocol):
    """Named tensors. Those that are one under several names are listed once; the other names are aliases."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def aliases(self) -> Mapping[str, str]: ...
    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class MemoryState:
    """A state dict."""

    values: Mapping[str, torch.Tensor]
    tensors: Mapping[str, TensorInfo]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, values: Mapping[str, torch.Tensor]) -> MemoryState:
        plain = state_dict_of(values, "the state")
        for name, value in plain.items():
            require_values(name, value)
        kept, aliases = without_ties(shapes_of(plain))
        detached = {info.name: plain[info.name].detach() for info in kept}
        ready = {name: value.resolve_conj().resolve_neg() for name, value in detached.items()}
        return cls(ready, {info.name: info for info in kept}, aliases)

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        value = self.values[name]
        return (value if box is None else value[box]).cpu()


def require_tensors(state: State) -> None:
    if not state.tensors:
        raise CheckpointUnusable("there are no tensors to save", remedy="pass a state that has some")


def whole(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, extent) for extent in shape)


def bytes_in(box: Box, dtype: str) -> int:
    elements: int = prod(each.stop - each.start for each in box)
    return elements * BYTES_OF[dtype]


def pieces(info: TensorInfo, limit: int = PIECE_BYTES, chunk: tuple[int, ...] | None = None) -> Iterator[Box]:
    """Boxes that make up a tensor, each within the limit, or one chunk: runs of its bytes where no chunks are given.

    With chunks, no chunk is divided between two boxes, so that each is written once.
    """
    if not info.size:
        return
    yield from _bands(info.shape, chunk or (1,) * len(info.shape), limit // BYTES_OF[info.dtype])


def piece_limit(most: int = PIECE_BYTES) -> int:
    """How large the pieces of a tensor are, where a few of them are in memory at a time."""
    return min(most, max(_LEAST_PIECE, shared_budget().total // 4))


def piece_at(info: TensorInfo, offset: int, limit: int = PIECE_BYTES) -> tuple[Box, int]:
    """The piece that has the byte at an offset, one of the runs that `pieces` gives, and where it begins."""
    width = BYTES_OF[info.dtype]
    element, most = offset // width, max(1, limit // width)
    box: Box = ()
    for place, extent in enumerate(info.shape):
        band = prod(info.shape[place + 1 :])
        rows = max(1, most // band)
        first = element // band // rows * rows
        box += (slice(first, min(first + rows, extent)),)
        element -= first * band
        if band <= most:
            box += whole(info.shape[place + 1 :])
            break
    return box, offset // width * width - element * width


def _bands(shape: tuple[int, ...], chunk: tuple[int, ...], limit: int) -> Iterator[Box]:
    if not shape:
        yield ()
        return
    band = chunk[0] * prod(shape[1:])
    rows = chunk[0] * max(1, limit // max(1, band))
    for first in range(0, shape[0], rows):
        for inner in [whole(shape[1:])] if band <= limit else _bands(shape[1:], chunk[1:], limit // chunk[0]):
            yield (slice(first, min(first + rows, shape[0])), *inner)
