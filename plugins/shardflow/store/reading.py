"""Reads a source once, in order, into reused buffers, and marks where its chunks end."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase

from shardflow.dtype import DType
from shardflow.store.cutting import Run
from shardflow.store.errors import SourceUnusable
from shardflow.store.gear import Gear
from shardflow.store.memory import buffer

BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """One chunk of a block."""

    start: int
    end: int
    dtype: DType
    name: bytes | None = None  # where it had to be known to cut here


@dataclass(frozen=True, slots=True)
class Block:
    """Whole chunks, back to back in one buffer, which goes back to its pool when they are packed."""

    buffer: memoryview
    data: memoryview
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What was read of a source and is not cut yet, from a cut on; `final` if nothing follows."""

    buffer: memoryview
    data: memoryview
    final: bool


class Buffers:
    """Buffers of a block each, used again: memory that was touched before is several times as fast.

    In front of the block there is room for what the block before it left over.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._idle: list[memoryview] = []

    @property
    def each(self) -> int:
        """The size of a buffer."""
        return self.room + BLOCK_BYTES

    def take(self) -> memoryview:
        return self._idle.pop() if self._idle else buffer(self.each)

    def give(self, memory: memoryview) -> None:
        self._idle.append(memory)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What was read of a source in one go, behind the room in its buffer."""

    buffer: memoryview
    end: int
    last: bool


class Windows:
    """The windows of a source whose content decides where it is cut: each begins with what the last left over."""

    def __init__(self, file: RawIOBase, length: int | None, buffers: Buffers) -> None:
        """`length` is None where only the source's end will tell."""
        self._file = file
        self._left = length
        self._buffers = buffers
        self._rest = b""
        self._next: _Piece | None = None
        self._ended = False

    def __iter__(self) -> Iterator[Window]:
        while True:
            self.read_on()
            piece, self._next = self._next, None
            if piece is None:
                return
            start = self._buffers.room - len(self._rest)
            piece.buffer[start : self._buffers.room] = self._rest
            yield Window(piece.buffer, piece.buffer[start : piece.end], piece.last)

    def read_on(self) -> None:
        """Read what the next window will hold, whatever will be left over of this one."""
        if self._next or self._ended:
            return
        memory, room = self._buffers.take(), self._buffers.room
        wanted = BLOCK_BYTES if self._left is None else min(BLOCK_BYTES, self._left)
        end = _fill(self._file, memory, room, room + wanted)
        if self._left is not None:
            self._left -= end - room
        self._ended = self._left == 0 or end < room + wanted
        self._next = _Piece(memory, end, self._ended)

    def taken(self, window: Window, spans: tuple[Span, ...]) -> Block:
        """These chunks of a window as a block; what follows them comes again in the next."""
        end = spans[-1].end
        self._rest = bytes(window.data[end:])
        return Block(window.buffer, window.data[:end], spans)


def blocks(file: RawIOBase, runs: Iterable[Run], gear: Gear, buffers: Buffers) -> Generator[Block, None, None]:
    """The blocks of a source; ends early where the source does."""
    fixed: list[Run] = []
    for run in runs:
        if fixed and (run.by_content or sum(waiting.length for waiting in fixed) + run.length > BLOCK_BYTES):
            yield from _fixed_block(file, fixed, buffers)
            fixed = []
        if run.by_content:
            yield from _content_blocks(file, run.length, gear, buffers)
        else:
            fixed.append(run)
    if fixed:
        yield from _fixed_block(file, fixed, buffers)


def stream_blocks(file: RawIOBase, gear: Gear, buffers: Buffers) -> Generator[Block, None, None]:
    """The blocks of a stream whose length only its end tells."""
    yield from _content_blocks(file, None, gear, buffers)


def read_all(file: RawIOBase, most: int) -> bytes:
    """What a small source holds, `most` bytes of it."""
    memory = memoryview(bytearray(most))
    return bytes(memory[: _fill(file, memory, 0, most)])


def _fixed_block(file: RawIOBase, runs: list[Run], buffers: Buffers) -> Generator[Block, None, None]:
    length = sum(run.length for run in runs)
    memory = buffers.take()
    if _fill(file, memory, 0, length) < length:
        return
    spans, start = [], 0
    for run in runs:
        spans.append(Span(start, start + run.length, run.dtype))
        start += run.length
    yield Block(memory, memory[:length], tuple(spans))


def _content_blocks(file: RawIOBase, length: int | None, gear: Gear, buffers: Buffers) -> Generator[Block, None, None]:
    windows = Windows(file, length, buffers)
    for window in windows:
        ends = gear.cuts(window.data, final=window.final)
        if ends:
            starts = [0, *ends[:-1]]
            spans = tuple(Span(start, end, DType.BYTES) for start, end in zip(starts, ends, strict=True))
            yield windows.taken(window, spans)


def _fill(file: RawIOBase, memory: memoryview, start: int, end: int) -> int:
    """Read until `end` or the source's end; returns how far the buffer is filled."""
    while start < end:
        try:
            count = file.readinto(memory[start:end])
        except OSError as error:
            raise SourceUnusable(f"reading failed: {error.strerror or error}", remedy="see to the source") from None
        if not count:
            break
        start += count
    return start
