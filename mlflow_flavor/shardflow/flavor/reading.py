"""Reads a stored tensor into the memory it is to stay in, or piece by piece where it is to change on the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from shardflow.flavor.copying import as_memory
from shardflow.flavor.errors import ShardAltered
from shardflow.flavor.folders import OpenFile
from shardflow.flavor.header import Entry
from shardflow.flavor.memory import empty_for
from shardflow.flavor.slicing import Box
from shardflow.flavor.torch_types import TORCH_TYPES

PIECE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tensor is to be, if not what was stored."""

    dtype: torch.dtype | None = None  # floating-point tensors only
    device: torch.device | None = None
    mapped: bool = True  # may be pages of the store's own files

    def dtype_of(self, stored: torch.dtype) -> torch.dtype:
        return self.dtype if self.dtype is not None and stored.is_floating_point else stored


@dataclass(frozen=True, slots=True)
class TensorReader:
    """One tensor of an open file."""

    name: str
    file: OpenFile
    entry: Entry

    def read(self, box: Box, wanted: Wanted) -> torch.Tensor:
        """The part in a box, in memory of its own or in pages of the store's files."""
        stored = TORCH_TYPES[self.entry.dtype]
        shape = [each.stop - each.start for each in box]
        dtype, device = wanted.dtype_of(stored), wanted.device
        if device is None or device.type == "cpu":
            pages = self._pages(box) if wanted.mapped and dtype == stored else None
            if pages is not None:
                return torch.frombuffer(pages, dtype=dtype).view(shape)
            target = empty_for(self.name, shape, dtype)
        else:
            target = torch.empty(shape, dtype=dtype, device=device)
        self.fill(target, box)
        return target

    def fill(self, target: torch.Tensor, box: Box) -> None:
        """The part in a box, into memory that is there."""
        if not target.numel():
            return
        if self._is_all(box) and self._is_as_stored(target):
            self._read_into(self.entry.offset, target)
        else:
            self._fill(target.detach(), self.entry.offset, self.entry.shape, box)

    def _is_all(self, box: Box) -> bool:
        return all(each == slice(0, extent, None) for each, extent in zip(box, self.entry.shape, strict=True))

    def _is_as_stored(self, target: torch.Tensor) -> bool:
        """Whether the bytes that are stored are those that belong into its memory."""
        of_type = target.dtype == TORCH_TYPES[self.entry.dtype] and target.device.type == "cpu"
        return of_type and target.is_contiguous() and not target.is_conj() and not target.is_neg()

    def _pages(self, box: Box) -> memoryview | None:
        length = prod(self.entry.shape) * TORCH_TYPES[self.entry.dtype].itemsize
        return self.file.mapped(self.entry.offset, length) if self._is_all(box) else None

    def _fill(self, target: torch.Tensor, offset: int, shape: tuple[int, ...], box: Box) -> None:
        """Groups of whole rows, of which the box is cut out; a row that is too large is a tensor of its own."""
        dtype = TORCH_TYPES[self.entry.dtype]
        if not shape:
            target.copy_(self._piece(offset, (), dtype))
            return
        row = prod(shape[1:]) * dtype.itemsize
        start, stop = box[0].start, box[0].stop
        if row > PIECE_BYTES and len(shape) > 1:
            for index in range(start, stop):
                self._fill(target[index - start], offset + index * row, shape[1:], box[1:])
            return
        rows = max(1, PIECE_BYTES // max(1, row))
        for first in range(start, stop, rows):
            last = min(stop, first + rows)
            piece = self._piece(offset + first * row, (last - first, *shape[1:]), dtype)
            target[first - start : last - start].copy_(piece[(slice(None), *box[1:])])

    def _piece(self, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        piece = torch.empty(shape, dtype=dtype)
        self._read_into(offset, piece)
        return piece

    def _read_into(self, offset: int, target: torch.Tensor) -> None:
        memory = as_memory(target)
        if self.file.readinto_at(offset, memory) != len(memory):
            raise ShardAltered(f"{self.name} is cut short", remedy="fetch the model again")
