"""Bytes of tensors of an open checkpoint, or of a state in memory, for files that are made of them."""

from __future__ import annotations

from threading import Lock

import torch

from shardflow.flavor.contents import Content, TensorContent
from shardflow.flavor.copying import copy_bytes
from shardflow.flavor.formats.state import PIECE_BYTES, MemoryState, State, piece_at, piece_limit
from shardflow.flavor.tensors import TensorInfo


def contents_of(state: State) -> dict[str, Content]:
    """Every tensor that is not an alias, by name."""
    return {name: _content(state, info) for name, info in state.tensors.items()}


def _content(state: State, info: TensorInfo) -> Content:
    if isinstance(state, MemoryState):
        return TensorContent.of(info.name, state.values[info.name])
    return PieceContent(state, info)


class PieceContent:
    """A tensor that is read piece by piece while a file is made of it."""

    def __init__(self, state: State, info: TensorInfo) -> None:
        self._state = state
        self._info = info
        self._limit = piece_limit(PIECE_BYTES)
        self._loading = Lock()
        self._loaded: tuple[int, torch.Tensor] | None = None  # a piece, and where it begins

    def read_into(self, offset: int, target: memoryview, /) -> None:
        done = 0
        while done < len(target):
            begin, values = self._piece(offset + done)
            count = min(len(target) - done, begin + values.nbytes - offset - done)
            copy_bytes(values, offset + done - begin, target[done : done + count])
            done += count
        if offset + done == self._info.size:
            self._loaded = None  # the next tensor needs the memory

    def check_unchanged(self) -> None:
        """A checkpoint that is read verifies itself."""

    def _piece(self, offset: int) -> tuple[int, torch.Tensor]:
        box, begin = piece_at(self._info, offset, self._limit)
        with self._loading:
            if self._loaded is None or self._loaded[0] != begin:
                self._loaded = None  # the memory of the last one, before there is a next one
                self._loaded = begin, self._state.read(self._info.name, box)
            return self._loaded
