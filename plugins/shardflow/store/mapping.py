"""Parts of a file in a store on this machine's disk as pages of its packs, verified where they lie and not copied.

That is for chunks that are stored as they are and lie in their packs as they lie in the file, as far as pages go;
writers see to it for large ones. The rest of such a part is read as ever: chunks that have to be decoded, and what
shares a page with the end of a pack.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shardflow.codec import CodecId
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.transport import PAGE_BYTES, POPULATE_READ, Transport, TransportError

WORTH_MAPPING = 1 << 20
ALIGNED = 8
CHUNKS_AT_ONCE = 2

Chunk = tuple[bytes, int, int]
"""Its name, and where it begins and ends."""

Read = Callable[[int, memoryview], object]
"""Fills memory with what a part has from an offset on, verified."""


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks that lie in a pack as they do in the part, one after the other."""

    pack: bytes
    start: int  # in the pack
    begin: int  # in the part
    end: int
    chunks: tuple[Chunk, ...]

    @property
    def lead(self) -> int:
        """Where the part would begin in a page if this run began where it does in its pack."""
        return (self.start - self.begin) % PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Pages:
    """Memory for a part, whose first byte lies in its page as it does in a pack."""

    memory: mmap.mmap
    lead: int
    length: int

    @classmethod
    def reserved(cls, lead: int, length: int) -> Pages:
        size = -(-(lead + length) // PAGE_BYTES) * PAGE_BYTES
        return cls(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), lead, length)

    @property
    def view(self) -> memoryview:
        return memoryview(self.memory)[self.lead : self.lead + self.length]

    def pages(self, run: Run) -> tuple[int, int]:
        """The whole pages that a run fills; the first and the last of all may hold something else beside it."""
        low, high = self.lead + run.begin, self.lead + run.end
        low += -low % PAGE_BYTES if run.begin else -self.lead
        high += -high % PAGE_BYTES if run.end == self.length else -(high % PAGE_BYTES)
        return low, high

    def proves(self, chunks: Iterable[Chunk]) -> bool:
        """Whether what is there can be read, and is what it should be."""
        view = self.view
        for name, begin, end in chunks:
            first = (self.lead + begin) // PAGE_BYTES * PAGE_BYTES
            try:
                self.memory.madvise(POPULATE_READ, first, self.lead + end - first)
            except OSError:
                return False
            if blake3(view[begin:end]).digest() != name:
                return False
        return True


def runs_of(manifest: Manifest, ends: npt.NDArray[np.int64], offset: int, length: int) -> list[Run]:
    """What of a part can be mapped, in order; nothing where that is little, or chunks begin or end outside of it."""
    first = int(np.searchsorted(ends, offset, side="right"))
    last = int(np.searchsorted(ends, offset + length, side="left"))
    rows = manifest.sequence[first : last + 1]
    if length < WORTH_MAPPING or last >= len(ends) or ends[last] != offset + length:
        return []
    table = manifest.table
    starts = ends[first : last + 1] - table.size[rows] - offset
    plain = (table.codec[rows] == CodecId.RAW) & (table.stored[rows] == table.size[rows])
    if starts[0] or not plain.any():
        return []
    shifts = table.offset[rows].astype(np.int64) - starts
    packs = table.pack[rows]
    same = plain[1:] & plain[:-1] & (np.diff(shifts) == 0) & (packs[1:] == packs[:-1])
    borders = [0, *(np.flatnonzero(~same) + 1).tolist(), len(rows)]
    runs = [_run(manifest, rows[a:b], starts[a:b].tolist()) for a, b in pairwise(borders) if plain[a]]
    lead = runs[0].lead
    fitting = [run for run in runs if run.lead == lead]
    enough = lead % ALIGNED == 0 and 2 * sum(run.end - run.begin for run in fitting) > length
    return fitting if enough else []


def _run(manifest: Manifest, rows: npt.NDArray[np.uint32], starts: list[int]) -> Run:
    table = manifest.table
    ends = [start + int(size) for start, size in zip(starts, table.size[rows], strict=True)]
    names = [table.id(int(row)) for row in rows]
    pack, start = table.packs[int(table.pack[rows[0]])], int(table.offset[rows[0]])
    return Run(pack, start, starts[0], ends[-1], tuple(zip(names, starts, ends, strict=True)))


def mapped(transport: Transport, runs: list[Run], length: int, read: Read) -> Pages | None:
    """Memory with the runs mapped and all else read into it; None where this machine, or this store, has none such."""
    try:
        made = Pages.reserved(runs[0].lead, length)
        view = made.view
        for run in runs:
            low, high = made.pages(run)
            start = run.start - run.begin + low - made.lead
            if low < high and not transport.map_pages(pack_key(run.pack), start, memoryview(made.memory)[low:high]):
                return None
            for begin, end in _beside(run, low - made.lead, high - made.lead):
                transport.read_into(pack_key(run.pack), run.start + begin - run.begin, [view[begin:end]])
    except (OSError, TransportError):
        return None
    for begin, end in _between(runs, length):
        read(begin, view[begin:end])
    return made


def _beside(run: Run, low: int, high: int) -> Iterator[tuple[int, int]]:
    """What of a run lies in no page of its own."""
    if low >= high:
        yield run.begin, run.end
        return
    if run.begin < low:
        yield run.begin, low
    if high < run.end:
        yield high, run.end


def _between(runs: list[Run], length: int) -> Iterator[tuple[int, int]]:
    """What of the part lies in no run."""
    at = 0
    for run in runs:
        if at < run.begin:
            yield at, run.begin
        at = run.end
    if at < length:
        yield at, length


def portions(runs: list[Run]) -> Iterator[tuple[Chunk, ...]]:
    """All chunks that are mapped, a few at a time."""
    for run in runs:
        for at in range(0, len(run.chunks), CHUNKS_AT_ONCE):
            yield run.chunks[at : at + CHUNKS_AT_ONCE]
