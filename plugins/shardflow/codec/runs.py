"""A stored stream that is made of runs of bytes, each coded alone: written one behind the other, read with every check.

A run is stored as one byte of *tag and coding*, for a frame its length, and what the coding needs. How many bytes a run
stands for is known to the reader before, so it takes no memory on a stream's word.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import frames, streams
from shardflow.codec.buffers import scratch
from shardflow.codec.packing import packed_size
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from shardflow.codec.buffers import Bytes

_CONSTANT, _RAW, _FRAME, _SPARSE = 0, 1, 2, 3
_TAGS = 64
_LENGTH = struct.Struct("<I")
_DEPTH = 4  # of sparse runs whose own parts are sparse

_SAMPLE = 4 << 10
_WORTH_SAMPLING = 8 * _SAMPLE  # bytes; fewer are compressed in the time that a sample takes
_REPETITIVE = 4  # what shrank by this factor may repeat itself


class OutOfRoom(Exception):
    """What is being written turns out larger than it may be."""


class RunWriter:
    """Fills `room` from its beginning; what does not fit raises OutOfRoom."""

    def __init__(self, room: memoryview) -> None:
        self._room = np.frombuffer(room, np.uint8)
        self._used = 0

    @property
    def written(self) -> Bytes:
        return self._room[: self._used]

    def put(self, data: Buffer) -> None:
        view = np.frombuffer(memoryview(data), np.uint8)
        end = self._used + view.size
        if end > self._room.size:
            raise OutOfRoom
        np.copyto(self._room[self._used : end], view)  # without the interpreter's lock
        self._used = end

    def run(self, tag: int, data: Bytes) -> None:
        """`data`, which is not empty, in the coding that makes it smallest."""
        for part in _coded(tag, data, _DEPTH):
            self.put(part)


def _coded(tag: int, data: Bytes, depth: int) -> list[Buffer]:
    if streams.is_constant(data):
        return [bytes([_TAGS * _CONSTANT + tag, data[0]])]
    if depth and data.size > _WORTH_SAMPLING:
        return _sparse(tag, data, depth) if _looks_sparse(data, depth) else _dense(tag, data)
    parts = _dense(tag, data)
    if depth and _size(parts) < data.size and np.count_nonzero(data) < data.size // 2:
        parts = min(parts, _sparse(tag, data, depth), key=_size)
    return parts


def _dense(tag: int, data: Bytes) -> list[Buffer]:
    """As a frame, or as it is."""
    frame = _frame(data)
    if frame is None:
        return [bytes([_TAGS * _RAW + tag]), data.data]
    return [bytes([_TAGS * _FRAME + tag]) + _LENGTH.pack(len(frame)), frame]


def _sparse(tag: int, data: Bytes, depth: int) -> list[Buffer]:
    """Where there is something, and what; it has to be anything at all."""
    present = data != 0
    head: list[Buffer] = [bytes([_TAGS * _SPARSE + tag])]
    where, what = np.packbits(present, bitorder="little"), data[present]
    return head + _coded(0, where, depth - 1) + _coded(0, what, depth - 1)


def _looks_sparse(data: Bytes, depth: int) -> bool:
    """Whether a sample is smaller in two parts: to try that on all of the data takes longer than to store it."""
    picked = streams.sample(data, _WORTH_SAMPLING // 2)
    present = int(np.count_nonzero(picked))
    if not present:
        return True
    return present < picked.size // 2 and _size(_sparse(0, picked, depth)) < _size(_dense(0, picked))


def _size(parts: list[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def _frame(data: Bytes) -> bytes | None:
    """The smaller of two ways, unless it is not smaller than the data, or a sample says that it will not be."""
    if data.size > _WORTH_SAMPLING:
        picked = streams.sample(data, _SAMPLE)
        if not streams.worth(len(frames.by_huffman(picked.data)), picked.size):
            return None
    frame = frames.by_huffman(data.data)
    if len(frame) < data.size // _REPETITIVE:
        frame = min(frame, frames.by_matches(data.data), key=len)
    return frame if len(frame) + _LENGTH.size < data.size else None


class RunReader:
    """Hands out `stored` from its beginning; whatever is missing is CorruptData."""

    def __init__(self, stored: memoryview) -> None:
        self._stored = stored
        self._used = 0

    def take(self, length: int) -> memoryview:
        end = self._used + length
        if end > len(self._stored):
            raise CorruptData(f"a stream of {len(self._stored)} bytes ends where {length} more belong")
        taken = self._stored[self._used : end]
        self._used = end
        return taken

    def run(self, sizes: Sequence[int], slot: str, depth: int = _DEPTH) -> tuple[int, Bytes]:
        """The tag of the next run and its bytes, as many as `sizes` says for the tag: as stored, or in a work space."""
        coding, tag = divmod(self.take(1)[0], _TAGS)
        if tag >= len(sizes):
            raise CorruptData(f"a run has tag {tag}, where there are {len(sizes)}")
        if coding == _RAW:
            return tag, np.frombuffer(self.take(sizes[tag]), np.uint8)
        space = scratch(slot, sizes[tag])
        if coding == _CONSTANT:
            space.fill(self.take(1)[0])
        elif coding == _FRAME:
            (length,) = _LENGTH.unpack(self.take(_LENGTH.size))
            frames.read_frame(self.take(length), space.data)
        else:
            self._read_sparse(space, depth)
        return tag, space

    def _read_sparse(self, space: Bytes, depth: int) -> None:
        if not depth:
            raise CorruptData(f"runs of zeros lie more than {_DEPTH} deep in each other")
        _, bits = self.run([packed_size(space.size, 1)], f"where {depth}", depth - 1)
        present = np.unpackbits(bits, count=space.size, bitorder="little").view(np.bool_)
        count = int(np.count_nonzero(present))
        if not count:
            raise CorruptData("a run of zeros among which there is nothing")
        _, data = self.run([count], f"what {depth}", depth - 1)
        space.fill(0)
        space[present] = data

    def rest(self) -> memoryview:
        """Everything that has not been read."""
        return self.take(len(self._stored) - self._used)
