"""Fills packs with encoded chunks and sends them in the background, a few at once.

The number of packs in memory follows the byte budget: one is always there, more are taken while the budget has room. A
near store receives no more at a time for having more than a few of them, and memory that was never touched is slow; so
for each further one it is first waited a moment for one that arrives. Over a far link none does. Nor does one from a
near store that stalls, to which more would bring nothing, or over a slow link, which more would only crowd. So there
are no more of them where one has gone much faster than that moment, before one has arrived in good time, nor where
packs beside each other go at less than half the rate that one has gone at.

Nothing travels until the first pack is full. Where many will follow, the first ones are smaller.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from typing_extensions import Buffer

from shardflow.store.catalog import Catalog
from shardflow.store.journal import Journal
from shardflow.store.memory import buffer
from shardflow.store.pack import BASE_BYTES, ENTRY_BYTES, NO_SALT, PAGE_BYTES, SLACK_BYTES, PackBuilder, pack_key
from shardflow.transport import ByteBudget, ObjectMissing, Transport

MAX_PACKS_IN_MEMORY = 8
PACKS_AT_ONCE = 4  # are taken without waiting
PATIENCE = 0.5
SLOW = 20.0  # seconds for a pack beside others
MANY = 16
FIRST_PACKS = (8 << 20, 16 << 20)  # where MANY are to come


class PackSender:
    """Packs in the order in which chunks arrive; `sent_below` says which of them have arrived."""

    def __init__(
        self, transport: Transport, catalog: Catalog, journal: Journal, budget: ByteBudget, pack_bytes: int
    ) -> None:
        self._transport = transport
        self._catalog = catalog
        self._journal = journal
        self._budget = budget
        self._pack_bytes = pack_bytes
        self._pool = ThreadPoolExecutor(MAX_PACKS_IN_MEMORY - 1, thread_name_prefix="shardflow-send")
        self._first: list[int] = []  # sizes of packs to begin with, the next one last
        self._idle = [buffer(pack_bytes + SLACK_BYTES)]
        self._extra = 0
        self._builder: PackBuilder | None = None
        self._number = 0
        self._sending: deque[tuple[int, Future[tuple[memoryview, bool]]]] = deque()
        self._seconds = SLOW  # that the last pack took to arrive
        self._rate = self._best_rate = 0.0  # bytes a second, of the last pack and of the fastest
        self.own: set[int] = set()
        self.packs_sent = 0

    def expect(self, size: int) -> None:
        """A file of so many bytes is to come."""
        if not self.own and size >= MANY * self._pack_bytes:
            self._first = [size for size in reversed(FIRST_PACKS) if size < self._pack_bytes]

    def add(
        self,
        chunk: bytes,
        size: int,
        codec: int,
        parts: tuple[Buffer, ...],
        bases: tuple[int, ...] = (),
        at: int | None = None,
    ) -> int:
        """Append an encoded chunk, which lies `at` some place of its file; returns its row in the catalog."""
        stored = sum(memoryview(part).nbytes for part in parts)
        if self._builder is not None and not self._builder.fits(stored):
            self.flush()
        if self._builder is None:
            target = self._first.pop() if self._first else self._pack_bytes
            self._builder = PackBuilder(target, self._buffer())
            self._number = self._catalog.open_pack()
            self.own.add(self._number)
        names = tuple(self._catalog.name(base) for base in bases)
        offset = self._builder.add(chunk, size, codec, parts, names, at)
        return self._catalog.add(chunk, self._number, offset, stored, size, codec, bases)

    def flush(self) -> None:
        """Send what has been collected, however little."""
        if self._builder is not None:
            builder, self._builder = self._builder, None
            self._sending.append((self._number, self._pool.submit(self._send, builder, self._number)))

    def sent_below(self) -> int:
        """Every own pack with a lower number is in the store; raises what a finished sending failed with."""
        while self._sending and self._sending[0][1].done():
            self._reclaim()
        if self._sending:
            return self._sending[0][0]
        return self._number if self._builder is not None else len(self._catalog.packs)

    def drain(self) -> None:
        """Send everything and wait until it has arrived; what comes then needs memory for other things than packs."""
        self.flush()
        while self._sending:
            self._reclaim()
        self._give_back()

    def close(self) -> None:
        """Give all memory back; what has not been sent is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._give_back()
        self._idle.clear()

    def _give_back(self) -> None:
        del self._idle[1:]
        self._budget.release(self._extra * self._pack_bytes)
        self._extra = 0

    def _buffer(self) -> memoryview:
        while not self._idle:
            if self._needs_more() and self._budget.try_acquire(self._pack_bytes):
                self._extra += 1
                return buffer(self._pack_bytes + SLACK_BYTES)
            self._reclaim()
        return self._idle.pop()

    def _needs_more(self) -> bool:
        """Whether a further pack in memory would let the store receive more at a time."""
        if self._extra == MAX_PACKS_IN_MEMORY - 1:
            return False
        oldest = self._sending[0][1]
        if self._extra < PACKS_AT_ONCE - 1:
            return not oldest.done()
        wait([oldest], PATIENCE if self._seconds < SLOW else None)
        return not oldest.done() and not self._is_near() and not self._is_crowded()

    def _is_near(self) -> bool:
        return self._pack_bytes < self._best_rate * PATIENCE / 2

    def _is_crowded(self) -> bool:
        return self._rate < self._best_rate / 2

    def _reclaim(self) -> None:
        _, sending = self._sending.popleft()
        memory, sent = sending.result()
        self._idle.append(memory)
        self.packs_sent += sent

    def _send(self, builder: PackBuilder, number: int) -> tuple[memoryview, bool]:
        pack = builder.finish()
        self._catalog.name_pack(number, pack.id)
        began = time.monotonic()
        missing = not self._is_there(pack.id, pack.data.nbytes)
        if missing:
            self._transport.write(pack_key(pack.id), pack.data, content_addressed=True)
            self._seconds = max(time.monotonic() - began, 1e-6)
            self._rate = pack.data.nbytes / self._seconds
            self._best_rate = max(self._best_rate, self._rate)
        self._journal.note(pack.id, pack.entries)
        return builder.memory, missing

    def _is_there(self, pack: bytes, size: int) -> bool:
        # Another size is a pack cut short by something else than us: writing it again mends it.
        try:
            return self._transport.head(pack_key(pack)).size == size
        except ObjectMissing:
            return False


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk in its encoded form, on its way from one pack to another."""

    chunk: bytes
    size: int
    codec: int
    data: Buffer
    bases: tuple[bytes, ...] = ()
    at: int | None = None  # where it was, which tells how it lay in its pages


def rewritten(transport: Transport, chunks: list[StoredChunk], salt: bytes = NO_SALT) -> tuple[bytes, list[int]]:
    """Send a pack of chunks that are encoded already; returns its name and the chunks' offsets in it."""
    room = sum(memoryview(chunk.data).nbytes + ENTRY_BYTES + BASE_BYTES * len(chunk.bases) for chunk in chunks)
    builder = PackBuilder(room + PAGE_BYTES * len(chunks), salt=salt)
    offsets = [
        builder.add(chunk.chunk, chunk.size, chunk.codec, (chunk.data,), chunk.bases, chunk.at) for chunk in chunks
    ]
    pack = builder.finish()
    transport.write(pack_key(pack.id), pack.data, content_addressed=True)
    return pack.id, offsets
