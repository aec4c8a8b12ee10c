"""Writes the chunks of zarr arrays that are coded here, a few at once, each as a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from shardflow.flavor.formats.bits import as_array
from shardflow.flavor.formats.frames import Bytes, coded
from shardflow.flavor.formats.state import PIECE_BYTES, State, whole
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import BYTES_OF, TensorInfo
from shardflow.store.parallel import in_parallel

Array = tuple[TensorInfo, tuple[int, ...], Path]
"""A tensor, the shape of its chunks and the directory they go to."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    file: Path
    data: Bytes
    size: int  # of the whole chunk: at the end of a tensor there is less data than that
    width: int


def save_coded(state: State, arrays: Sequence[Array], memory: int) -> None:
    """Code and write what the state has for arrays whose metadata is written already."""
    threads = max(1, os.cpu_count() or 1)
    chunks = (chunk for array in arrays for chunk in _chunks(state, array, memory))
    for _ in in_parallel(_write, chunks, threads):
        pass


def _chunks(state: State, array: Array, memory: int) -> Iterator[_Chunk]:
    info, chunk, directory = array
    width = BYTES_OF[info.dtype]
    size = prod(chunk) * width
    if not info.size:
        return
    for box in _runs(info.shape, chunk, min(PIECE_BYTES, memory // 4) // width):
        values = as_array(state.read(info.name, box).contiguous(), info.dtype).reshape(-1).view(np.uint8)
        for number, key in enumerate(_keys(box, chunk)):
            yield _Chunk(directory / key, values[number * size : (number + 1) * size], size, width)


def _runs(shape: tuple[int, ...], chunk: tuple[int, ...], limit: int) -> Iterator[Box]:
    """Boxes of whole chunks that follow each other: more than one only where a chunk spans all that is below a row."""
    if not shape:
        yield ()
        return
    spans = chunk[1:] == shape[1:]
    rows = chunk[0] * (max(1, limit // prod(chunk)) if spans else 1)
    for first in range(0, shape[0], rows):
        for inner in [whole(shape[1:])] if spans else _runs(shape[1:], chunk[1:], limit):
            yield (slice(first, min(first + rows, shape[0])), *inner)


def _keys(box: Box, chunk: tuple[int, ...]) -> Iterator[str]:
    """The names of the chunks in a box, which are cut along one dimension at most."""
    firsts = [each.start // extent for each, extent in zip(box, chunk, strict=True)]
    counts = [-(-(each.stop - each.start) // extent) for each, extent in zip(box, chunk, strict=True)]
    assert sum(count > 1 for count in counts) <= 1
    cut = next((place for place, count in enumerate(counts) if count > 1), 0)
    for step in range(prod(counts)):
        yield ".".join(["c", *(str(first + step * (place == cut)) for place, first in enumerate(firsts))])


def _write(chunk: _Chunk) -> None:
    data = chunk.data
    if data.size < chunk.size:
        data = np.zeros(chunk.size, np.uint8)
        data[: chunk.data.size] = chunk.data
    parts = coded(data, chunk.width)
    with chunk.file.open("xb", buffering=0) as out:
        # The parts as they are: to join them first would take as long as to code them, in memory never used before.
        written = os.writev(out.fileno(), parts)
        if written < sum(map(len, parts)):
            out.write(b"".join(parts)[written:])  # the disk is full: this says so
