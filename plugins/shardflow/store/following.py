"""Cuts a new version of a file where an earlier one was cut, as far as their bytes are the same.

A cut depends on nothing but the bytes of the chunk that it ends, because the gear hash starts anew at each cut. So
where the bytes of an earlier chunk come again, from a cut on, a scan would end a chunk with them too. Naming the span
shows whether they do, in a tenth of the time, and names the chunk as well. What differs is scanned, until a chunk turns
up that the earlier version has.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from io import RawIOBase
from itertools import pairwise

from blake3 import blake3

from shardflow.dtype import DType
from shardflow.store.gear import Gear
from shardflow.store.reading import BLOCK_BYTES, Block, Buffers, Span, Window, Windows
from shardflow.store.trail import Trail

GROUP = 16  # spans that are named in one go; those behind one that differs are named for nothing

Tries = list[tuple[list[Span], Future[int]]]


def followed_blocks(
    file: RawIOBase, length: int | None, follower: Follower, buffers: Buffers
) -> Generator[Block, None, None]:
    """The blocks of a source, cut as a scan cuts it; `length` is None where only the source's end will tell."""
    windows = Windows(file, length, buffers)
    ready: Block | None = None
    for window in windows:
        tries = follower.tries(window, 0)
        windows.read_on()
        if ready:
            yield ready  # whoever takes it has work to do on it, while other threads try
        spans = follower.cut(window, tries)
        ready = windows.taken(window, tuple(spans)) if spans else None
    if ready:
        yield ready


class Follower:
    """Where a new version has got to in an earlier one."""

    def __init__(self, trail: Trail, gear: Gear, pool: Executor) -> None:
        self._trail = trail
        self._gear = gear
        self._pool = pool
        self._at: int | None = 0  # the chunk of the earlier version that should come next
        self._differs: int | None = None  # the one that should have come, and did not
        self._reach = gear.maximum  # what is scanned before a known chunk is looked for: a cut lies within

    def tries(self, window: Window, start: int) -> Tries:
        """The chunks that should lie in a window from `start` on, being named."""
        if self._at is None:
            return []
        spans = []
        for name, size in self._trail.fitting(self._at, len(window.data) - start, final=window.final):
            spans.append(Span(start, start + size, DType.BYTES, name))
            start += size
        groups = [spans[first : first + GROUP] for first in range(0, len(spans), GROUP)]
        return [(group, self._pool.submit(_agreeing, window.data, group)) for group in groups]

    def cut(self, window: Window, tries: Tries) -> list[Span]:
        """The complete chunks of a window, given the tries for its beginning."""
        spans = self._agreed(window, tries)
        while not self._done(window, start := spans[-1].end if spans else 0):
            stop = min(start + self._next_reach(), len(window.data))
            spans += self._cut_by_content(window, start, stop)
            if stop == len(window.data):
                break
            spans += self._agreed(window, self.tries(window, spans[-1].end if spans else 0))
        return spans

    def _agreed(self, window: Window, tries: Tries) -> list[Span]:
        agreed: list[Span] = []
        if self._at is None:
            return agreed
        for number, (group, trying) in enumerate(tries):
            # Rather than wait for a free thread, this one does it.
            count = _agreeing(window.data, group) if trying.cancel() else trying.result()
            agreed += group[:count]
            if count < len(group):
                for _, needless in tries[number + 1 :]:
                    needless.cancel()
                self._differs = self._at + len(agreed)
                self._at = None
                return agreed
        self._at += len(agreed)
        return agreed

    def _done(self, window: Window, end: int) -> bool:
        """Whether the rest of a window is nothing, or the beginning of the chunk that should come next."""
        rest = len(window.data) - end
        return not rest or (self._at is not None and not window.final and self._trail.size(self._at) > rest)

    def _next_reach(self) -> int:
        """How far to scan: first to where the chunk that differs ended, as it does again where bytes were replaced."""
        return self._reach if self._differs is None else self._trail.size(self._differs)

    def _cut_by_content(self, window: Window, start: int, stop: int) -> list[Span]:
        """The chunks in a part of a window."""
        final = window.final and stop == len(window.data)
        ends = self._gear.cuts(window.data[start:stop], final=final)
        cuts = [start, *(start + end for end in ends)]
        spans = [Span(first, end, DType.BYTES) for first, end in pairwise(cuts)]
        if spans:
            last = spans.pop()
            name = blake3(window.data[last.start : last.end]).digest()
            spans.append(replace(last, name=name))
            self._find_back(name, ends[-1])
        self._differs = None
        return spans

    def _find_back(self, chunk: bytes, scanned: int) -> None:
        """Where the earlier version goes on behind a chunk that ends what was scanned."""
        differs = self._differs
        if differs is not None and scanned == self._trail.size(differs):
            self._at = self._trail.behind(differs)
        else:
            self._at = self._trail.after(chunk)
        if self._at is not None:
            self._reach = self._gear.maximum
        elif differs is None:
            self._reach = min(2 * self._reach, BLOCK_BYTES)


def _agreeing(data: memoryview, spans: Sequence[Span]) -> int:
    """How many of the first spans have their names."""
    for count, span in enumerate(spans):
        if blake3(data[span.start : span.end]).digest() != span.name:
            return count
    return len(spans)
