"""A stored file as a file object: seek anywhere, read anything, and only the chunks touched are fetched."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from shardflow.store.cache import ChunkCache
from shardflow.store.chunks import KeptChunks, PlainChunks
from shardflow.store.errors import PackMissing
from shardflow.store.fetch import Range, ranges
from shardflow.store.manifest import Manifest, ends_of
from shardflow.store.mapping import mapped, portions, runs_of
from shardflow.store.pack import MAX_CHUNK_BYTES
from shardflow.store.parallel import readers
from shardflow.transport import ByteBudget, Transport, renewed_in_child
from shardflow.transport.transport import flat

KEPT_BYTES = 32 << 20
PEEKED_BYTES = 4 << 10
ALIGNED = 8
LEAST_AHEAD, MOST_AHEAD = 256 << 10, 16 << 20


class Reader(io.RawIOBase):
    """Reads one version of a stored file, verified, until closed; safe to share between threads through `read_at`.

    What is read is the file as it was when it was opened, even if another is put in its place meanwhile.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        manifest: Manifest,
        budget: ByteBudget,
        *,
        cache: ChunkCache | None = None,
        reload: Callable[[], Manifest] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._transport = transport
        self._budget = budget
        self._cache = cache
        self._reload = reload
        self._position = 0
        self._read_to = 0  # where the last read ended
        self._in_a_row = 0  # bytes of all reads that went on where the one before ended
        self._ahead = (0, b"")
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._start(manifest)
        renewed_in_child(self, Reader._start_anew)

    def _start(self, manifest: Manifest) -> None:
        self._keeping = Lock()
        self._bases = KeptChunks()
        self._pool = ThreadPoolExecutor(readers(self._transport.url), thread_name_prefix="shardflow-read")
        self._version = self._made_of(manifest)

    def _start_anew(self) -> None:
        if not self.closed:
            self._transport = self._transport.session(self._transport.cancel)
            self._start(self._version.manifest)

    @property
    def size(self) -> int:
        return self._version.manifest.size

    @property
    def digest(self) -> str:
        """BLAKE3 of the whole file, in hexadecimal."""
        return self._version.manifest.digest.hex()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._checkClosed()
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        if whence not in starts:
            raise ValueError(f"cannot seek from {whence!r}: it is 0, 1 or 2")
        start = starts[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the start of {self.name}")
        self._position = start + offset
        return self._position

    def readinto(self, target: Buffer) -> int:
        self._checkClosed()
        view = flat(target)
        view = view[: max(0, self.size - self._position)]
        if self._position != self._read_to:
            self._in_a_row = 0
        count = 0
        while count < len(view):
            count += self._from_ahead(self._position + count, view[count:])
            if count < len(view) and not self._looked_ahead(self._position + count, len(view) - count):
                count += self.readinto_at(self._position + count, view[count:])
        self._position += count
        self._read_to = self._position
        self._in_a_row += count
        return count

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer only at the end of the file; does not move the position."""
        target = bytearray(max(0, min(length, self.size - offset)))
        self.readinto_at(offset, target)
        return bytes(target)

    def readinto_at(self, offset: int, target: Buffer) -> int:
        """Fill a buffer from `offset`; returns how much the file had."""
        self._checkClosed()
        if offset < 0:
            raise ValueError(f"cannot read at {offset}, before the start of {self.name}")
        view = flat(target)
        view = view[: max(0, min(len(view), self.size - offset))]
        if not len(view):
            return 0
        version = self._version
        try:
            self._fill(version, offset, view)
        except PackMissing:
            # Repacking moves chunks: the same content may be elsewhere by now.
            if not self._refreshed(version.manifest):
                raise
            self._fill(self._version, offset, view)
        return len(view)

    def mapped(self, offset: int, length: int) -> memoryview | None:
        """The same without a copy, verified: pages of the store's own files, private to who writes to them.

        None where this part of the file is not stored like that, or not on this machine.
        """
        self._checkClosed()
        manifest, ends = self._version.manifest, self._version.ends
        runs = runs_of(manifest, ends, offset, length) if manifest.inline is None else []
        if not runs:
            return None
        pages = mapped(self._transport, runs, length, lambda begin, view: self.readinto_at(offset + begin, view))
        if pages is None or not all(self._pool.map(pages.proves, portions(runs))):
            return None
        return pages.view

    def readall(self) -> bytes:
        """All that is left, with as many reads at once as the file allows."""
        data = self.read_at(self._position, self.size)
        self._position += len(data)
        return data

    def peek(self, size: int = 0) -> bytes:
        """The next bytes, maybe more than asked for, without moving on; without it lines are read byte by byte."""
        return self.read_at(self._position, max(size, PEEKED_BYTES))

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._kept.clear()
            self._ahead = (0, b"")
        super().close()

    def _from_ahead(self, offset: int, view: memoryview) -> int:
        start, data = self._ahead
        part = data[offset - start : offset - start + len(view)] if start <= offset else b""
        view[: len(part)] = part
        return len(part)

    def _looked_ahead(self, offset: int, length: int) -> bool:
        """Whether more was read than is wanted now: who has read much in a row is spared a request for every chunk."""
        ahead = min(self._in_a_row, MOST_AHEAD)
        if ahead < max(length, LEAST_AHEAD):
            return False
        self._ahead = (offset, self.read_at(offset, ahead))
        return True

    def _made_of(self, manifest: Manifest) -> _Version:
        chunks = PlainChunks(self._transport, manifest.table, self.name, self._bases, self._cache)
        return _Version(manifest, ends_of(manifest), chunks)

    def _refreshed(self, stale: Manifest) -> bool:
        fresh = self._reload() if self._reload is not None else stale
        same = fresh.digest == stale.digest and fresh.table.packs != stale.table.packs
        if same:
            self._version = self._made_of(fresh)
        return same

    def _fill(self, version: _Version, offset: int, view: memoryview) -> None:
        manifest, ends = version.manifest, version.ends
        if manifest.inline is not None:
            view[:] = manifest.inline[offset : offset + len(view)]
            return
        first = int(np.searchsorted(ends, offset, side="right"))
        last = int(np.searchsorted(ends, offset + len(view), side="left"))
        wanted: dict[int, list[int]] = {}
        for index in range(first, last + 1):
            row = int(manifest.sequence[index])
            start = int(ends[index]) - int(manifest.table.size[row]) - offset
            wanted.setdefault(row, []).append(start)
        table = manifest.table
        missing = [row for row, starts in wanted.items() if not self._from_kept(table.id(row), starts, view)]
        parts = list(ranges(table, missing))
        if len(parts) == 1:
            self._fetch(version, parts[0], wanted, view)
        else:
            reading = [self._pool.submit(self._fetch, version, part, wanted, view) for part in parts]
            wait(reading)  # all of them: after a failure nobody may still write into the caller's memory
            for done in reading:
                done.result()

    def _from_kept(self, chunk: bytes, starts: list[int], view: memoryview) -> bool:
        data = self._kept.get(chunk)
        if data is None and self._cache is not None:
            data = self._cache.get(chunk)
        if data is None:
            return False
        for start in starts:
            _copy_part(memoryview(data), start, view)
        return True

    def _fetch(self, version: _Version, part: Range, wanted: dict[int, list[int]], view: memoryview) -> None:
        table, chunks = version.manifest.table, version.chunks

        def place(row: int) -> memoryview | None:
            return _room(view, wanted[row][0], int(table.size[row]))

        with self._budget.hold(part.length + MAX_CHUNK_BYTES + chunks.work_bytes(part.rows)):
            for row, data in chunks.in_range(part, place):
                for start in wanted[row][place(row) is not None :]:
                    _copy_part(data, start, view)
                chunk = table.id(row)
                if self._cache is not None:
                    self._cache.put(chunk, data)
                if any(start < 0 or start + len(data) > len(view) for start in wanted[row]):
                    self._keep(chunk, data)

    def _keep(self, chunk: bytes, data: memoryview) -> None:
        """Remember a chunk that was read in part: the next small read wants the rest of it."""
        with self._keeping:
            if chunk not in self._kept:
                self._kept[chunk] = bytes(data)
                self._kept_bytes += len(data)
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])


@dataclass(frozen=True, slots=True)
class _Version:
    """What the file is made of; one attribute, so that threads never see the old half with the new one."""

    manifest: Manifest
    ends: npt.NDArray[np.int64]  # of the chunks in the file
    chunks: PlainChunks


def _room(view: memoryview, start: int, size: int) -> memoryview | None:
    """The part of the view that a whole chunk fills, if it does and lies there as numbers have to lie in memory."""
    if start < 0 or start + size > len(view):
        return None
    room = view[start : start + size]
    return room if np.frombuffer(room, np.uint8).ctypes.data % ALIGNED == 0 else None


def _copy_part(data: memoryview, start: int, view: memoryview) -> None:
    """Copy what overlaps of a chunk that begins at `start` (maybe before the view) into the view."""
    begin, end = max(0, start), min(len(view), start + len(data))
    view[begin:end] = data[begin - start : end - start]
