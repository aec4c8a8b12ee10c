"""Bytes of tensors of an open checkpoint, or of a state in memory, for files that are made of them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from threading import Lock

import torch

from shardflow.flavor.contents import Content, TensorContent
from shardflow.flavor.copying import copy_bytes
from shardflow.flavor.formats.state import MemoryState, State, bytes_in, pieces
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
        self._boxes = list(pieces(info))
        sizes = [bytes_in(box, info.dtype) for box in self._boxes]
        self._starts = [0, *accumulate(sizes)]
        self._loading = Lock()
        self._loaded: tuple[int, torch.Tensor] | None = None

    def read_into(self, offset: int, target: memoryview, /) -> None:
        done = 0
        while done < len(target):
            place = bisect_right(self._starts, offset + done) - 1
            count = min(len(target) - done, self._starts[place + 1] - offset - done)
            copy_bytes(self._piece(place), offset + done - self._starts[place], target[done : done + count])
            done += count
        if offset + done == self._starts[-1]:
            self._loaded = None  # the next tensor needs the memory

    def check_unchanged(self) -> None:
        """A checkpoint that is read verifies itself."""

    def _piece(self, place: int) -> torch.Tensor:
        with self._loading:
            if self._loaded is None or self._loaded[0] != place:
                self._loaded = None  # the memory of the last one, before there is a next one
                self._loaded = place, self._state.read(self._info.name, self._boxes[place])
            return self._loaded[1]
