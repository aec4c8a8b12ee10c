"""A tensor is read in pieces that are found when they are needed: how large it claims to be costs nothing."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from math import prod

import pytest
import torch

from shardflow.flavor.copying import as_memory
from shardflow.flavor.formats.contents import PieceContent
from shardflow.flavor.formats.state import MemoryState, bytes_in, piece_at, pieces
from shardflow.flavor.tensors import TensorInfo

SHAPES = [(), (1,), (7,), (3, 5), (5, 3, 4), (2, 1, 9), (1, 2, 3, 4), (40, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [1, 4, 12, 20, 64, 1 << 20])
def test_every_byte_of_a_tensor_is_in_the_piece_that_is_found_for_it(shape: tuple[int, ...], limit: int) -> None:
    info, begin = TensorInfo("w", "F32", shape), 0
    for box in pieces(info, limit):
        size = bytes_in(box, info.dtype)
        assert all(piece_at(info, offset, limit) == (box, begin) for offset in range(begin, begin + size))
        begin += size
    assert begin == info.size


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_read_in_runs_of_any_length_is_the_tensor(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardflow.flavor.formats.contents.PIECE_BYTES", 24)
    state = MemoryState.of({"w": torch.arange(prod(shape), dtype=torch.float32).reshape(shape)})
    (info,) = state.tensors.values()
    for length in (1, 5, 24, 1000):
        content, found = PieceContent(state, info), bytearray(info.size)
        for offset in range(0, info.size, length):
            content.read_into(offset, memoryview(found)[offset : offset + length])
        assert bytes(found) == bytes(as_memory(state.values["w"]))


@pytest.mark.parametrize("shape", [(1 << 50,), (1 << 25, 1 << 25), (2, 1 << 49), (1 << 40, 3, 1 << 10)])
def test_a_tensor_that_claims_to_be_larger_than_any_disk_takes_no_memory(shape: tuple[int, ...]) -> None:
    info = TensorInfo("w", "F32", shape)
    tracemalloc.start()
    try:
        PieceContent(MemoryState({}, {"w": info}, {}), info)
        assert len(list(islice(pieces(info), 100))) == 100
        assert len(list(islice(pieces(info, 1 << 20, tuple(min(extent, 64) for extent in shape)), 100))) == 100
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
