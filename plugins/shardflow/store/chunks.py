"""The chunks of a stored file, decoded and verified, each from its stored bytes and the chunks it is coded against.

A chunk that is verified proves those it was made of. So who only reads a file gets *drafts* of bases, which are decoded
and not verified; where what is made of them is not the chunk it should be, all of them are verified, and the damaged
one is named.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock

import numpy as np

from shardflow.codec import CodecId
from shardflow.loans import BufferPool
from shardflow.store.cache import ChunkCache
from shardflow.store.errors import ChunkDamaged
from shardflow.store.fetch import Range, cut_short, damaged, parted, ranges, read_stored, read_stored_into, verified
from shardflow.store.manifest import ChunkTable
from shardflow.transport import Transport, Truncated

BATCH_BYTES = 8 << 20  # of plain bases that are held to decode a few chunks
MOST_BASE_BYTES = 64 << 20  # that one chunk may rest on, directly and indirectly; writers keep to it
KEPT_BYTES = 16 << 20

_copies = BufferPool()

Place = Callable[[int], memoryview | None]
"""Where a row's plain bytes are to be, in memory that is there; None where that is all the same."""


def _nowhere(_row: int) -> None:
    return None


def too_heavy(table: ChunkTable) -> list[int]:
    """The rows that nobody reads, since they rest on more than `MOST_BASE_BYTES`."""
    if int(table.size[np.unique(table.base)].sum(dtype=np.int64)) <= MOST_BASE_BYTES:
        return []
    size, bases = table.size.tolist(), _bases_of(table)
    at_most: dict[int, int] = {}  # what a row rests on twice counts twice
    for row, on in bases.items():  # a row's bases come before it
        at_most[row] = min(sum(size[base] + at_most.get(base, 0) for base in on), MOST_BASE_BYTES + 1)
    suspects = (row for row, weight in at_most.items() if weight > MOST_BASE_BYTES)
    return [row for row in suspects if sum(size[base] for base in _all_below(row, bases)) > MOST_BASE_BYTES]


def _bases_of(table: ChunkTable) -> dict[int, list[int]]:
    base, counts = table.base.tolist(), table.base_count.tolist()
    ends = np.cumsum(table.base_count, dtype=np.int64).tolist()
    return {row: base[end - count : end] for row, (end, count) in enumerate(zip(ends, counts, strict=True)) if count}


def _all_below(row: int, bases: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    stack = [row]
    while stack:
        new = set(bases.get(stack.pop(), ())) - found
        found |= new
        stack += new
    return found


class KeptChunks:
    """Plain chunks that may be wanted again soon, by name; the least recently used go first."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._chunks: OrderedDict[bytes, tuple[memoryview, bool]] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def get(self, chunk: bytes, *, sure: bool = True) -> memoryview | None:
        """A chunk, if it is here; unless it need not be `sure`, a draft is none."""
        with self._lock:
            data, is_sure = self._chunks.get(chunk, (None, False))
            if data is None or (sure and not is_sure):
                return None
            self._chunks.move_to_end(chunk)
            return data

    def put(self, chunk: bytes, data: memoryview, *, sure: bool = True) -> None:
        with self._lock:
            before, is_sure = self._chunks.get(chunk, (None, False))
            if before is None or (sure and not is_sure):
                self._chunks[chunk] = (data, sure)
                self._held += len(data) if before is None else 0
            while self._held > self._limit:
                self._held -= len(self._chunks.popitem(last=False)[1][0])


class PlainChunks:
    """The plain bytes of a file's chunks; what they are coded against is fetched with them, and kept for a while."""

    def __init__(
        self,
        transport: Transport,
        table: ChunkTable,
        name: str,
        kept: KeptChunks | None = None,
        cache: ChunkCache | None = None,
    ) -> None:
        self._transport = transport
        self._table = table
        self._name = name
        self._kept = kept or KeptChunks()
        self._cache = cache
        self._drafts_do = cache is None  # what a cache keeps has to be verified
        self._starts = np.concatenate([[0], np.cumsum(table.base_count, dtype=np.int64)]) if len(table.base) else None

    def bases(self, row: int) -> list[int]:
        """The rows that a row is coded against, in the order in which its decoder gets them."""
        if self._starts is None:
            return []
        bases: list[int] = self._table.base[self._starts[row] : self._starts[row + 1]].tolist()
        return bases

    def work_bytes(self, rows: Iterable[int]) -> int:
        """The memory that decoding these rows takes beside their own bytes."""
        return 2 * BATCH_BYTES if self._starts is not None and any(self.bases(row) for row in rows) else 0

    def in_range(self, wanted: Range, place: Place = _nowhere) -> Iterator[tuple[int, memoryview]]:
        """The chunks of a range: each in the place that is given for its row, or valid until the next one is asked for.

        After a failure a place may hold anything.
        """
        places = {row: place(row) for row in wanted.rows}
        try:
            stored = self._stored(wanted, places)
        except Truncated as error:
            if len(wanted.rows) == 1:
                raise cut_short(self._table, wanted, self._name, error) from None
            # What lies before the cut can be read still, and the first chunk behind it gives the error its name.
            for part in (single for row in wanted.rows for single in ranges(self._table, [row])):
                yield from self.in_range(part, place)
            return
        for batch, needed in self._batches(wanted.rows):
            plain = self._drafts(needed)
            for row in batch:
                try:
                    made = self._decoded(row, stored[row], plain, places[row])
                except ChunkDamaged:
                    if not needed or not self._drafts_do:
                        raise
                    plain = self._fetched(needed)
                    made = self._decoded(row, stored[row], plain, places[row])
                yield row, made

    def of(self, rows: Iterable[int]) -> dict[int, memoryview]:
        """The plain bytes of some rows, valid for as long as they are referred to."""
        wanted = list(dict.fromkeys(rows))
        needed = self._needed(wanted)
        if self._bytes_of(needed) - self._bytes_of(wanted) > MOST_BASE_BYTES:
            if len(wanted) > 1:  # all of them together, and maybe none by itself
                return {row: data for one in wanted for row, data in self.of([one]).items()}
            raise damaged(self._table, wanted[0], self._name, f"it rests on more than {MOST_BASE_BYTES} bytes")
        plain = self._fetched(needed)
        return {row: plain[row] for row in wanted}

    def _stored(self, wanted: Range, places: Mapping[int, memoryview | None]) -> dict[int, memoryview]:
        """The stored bytes of a range by row; of chunks that need no decoding, straight in their places."""
        if not any(self._is_plain(row) for row, place in places.items() if place is not None):
            return parted(self._table, wanted, read_stored(self._transport, wanted, self._name))
        stored: dict[int, memoryview] = {}
        parts: list[memoryview] = []
        end = wanted.start
        for row in wanted.rows:
            offset, length = int(self._table.offset[row]), int(self._table.stored[row])
            if offset < end:  # chunks that overlap
                return parted(self._table, wanted, read_stored(self._transport, wanted, self._name))
            place = places[row] if self._is_plain(row) else None
            stored[row] = place if place is not None else _copies.lend(length)
            if end < offset:
                parts.append(_copies.lend(offset - end))
            parts.append(stored[row])
            end = offset + length
        read_stored_into(self._transport, wanted, parts, self._name)
        return stored

    def _is_plain(self, row: int) -> bool:
        return bool(self._table.codec[row] == CodecId.RAW and self._table.stored[row] == self._table.size[row])

    def _batches(self, rows: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
        """Rows that are decoded together, and all that they are coded against, directly and indirectly."""
        if self._starts is None:
            yield list(rows), []
            return
        batch: list[int] = []
        needed: set[int] = set()
        for row in rows:
            more = set(self._needed(self.bases(row), sure=not self._drafts_do))
            if self._bytes_of(more) > MOST_BASE_BYTES:
                raise damaged(self._table, row, self._name, f"it rests on more than {MOST_BASE_BYTES} bytes")
            if batch and self._bytes_of(needed | more) > BATCH_BYTES:
                yield batch, sorted(needed)
                batch, needed = [], set()
            batch.append(row)
            needed |= more
        yield batch, sorted(needed)

    def _drafts(self, needed: list[int]) -> dict[int, memoryview]:
        """What chunks are made of that will be verified themselves."""
        if self._drafts_do:
            with suppress(ChunkDamaged):
                return self._fetched(needed, sure=False)
        return self._fetched(needed)

    def _needed(self, rows: Iterable[int], *, sure: bool = True) -> list[int]:
        """Rows and all they rest on that is not at hand; in order, since a row's bases come before it."""
        found: set[int] = set()
        stack = list(rows)
        while stack:
            row = stack.pop()
            if row not in found:
                found.add(row)
                if self._kept.get(self._table.id(row), sure=sure) is None:
                    stack += self.bases(row)
        return sorted(found)

    def _bytes_of(self, rows: Iterable[int]) -> int:
        return sum(int(self._table.size[row]) for row in rows)

    def _fetched(self, needed: list[int], *, sure: bool = True) -> dict[int, memoryview]:
        plain = {row: data for row in needed if (data := self._at_hand(row, sure)) is not None}
        missing = [row for row in needed if row not in plain]
        stored: dict[int, memoryview] = {}
        for part in ranges(self._table, missing):
            try:
                stored |= parted(self._table, part, read_stored(self._transport, part, self._name))
            except Truncated as error:
                raise cut_short(self._table, part, self._name, error) from None
        for row in missing:
            # What was at hand a moment ago may rest on what was not fetched because of it.
            for base in self.bases(row):
                if base not in plain:
                    plain |= self._fetched(self._needed([base], sure=sure), sure=sure)
            data = _copies.lend(int(self._table.size[row]))
            plain[row] = self._decoded(row, stored.pop(row), plain, data, sure=sure)
            self._keep(row, data, sure)
        return plain

    def _at_hand(self, row: int, sure: bool) -> memoryview | None:
        chunk = self._table.id(row)
        data = self._kept.get(chunk, sure=sure)
        if data is None and self._cache is not None:
            cached = self._cache.get(chunk)
            data = memoryview(cached) if cached is not None else None
        return data

    def _keep(self, row: int, data: memoryview, sure: bool) -> None:
        chunk = self._table.id(row)
        self._kept.put(chunk, data, sure=sure)
        if self._cache is not None:
            self._cache.put(chunk, data)

    def _decoded(
        self,
        row: int,
        stored: memoryview,
        plain: dict[int, memoryview],
        place: memoryview | None = None,
        *,
        sure: bool = True,
    ) -> memoryview:
        bases = [plain[base] for base in self.bases(row)]
        try:
            return verified(self._table, row, stored, self._name, bases, place, sure=sure)
        except ChunkDamaged:
            # It may have been altered on its way only: look once more before calling the store damaged.
            (again,) = ranges(self._table, [row])
            stored = read_stored(self._transport, again, self._name)
            return verified(self._table, row, stored, self._name, bases, place, sure=sure)
