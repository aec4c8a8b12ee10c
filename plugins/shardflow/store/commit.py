"""Makes stored files visible: checks that all they need is there and will stay, and has their manifests written."""

from __future__ import annotations

import math
import os
import time
from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

from shardflow.errors import CorruptData
from shardflow.store.catalog import Catalog
from shardflow.store.chunks import PlainChunks
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.fetch import MEND, decoded
from shardflow.store.manifest import Manifest
from shardflow.store.pack import PackEntry, pack_key
from shardflow.store.revealing import PARALLEL_WRITES, Ready, Revealer
from shardflow.store.sending import StoredChunk, rewritten
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import ObjectMissing, Transport

MAX_CHECK_AGE = 600.0
COPIED_AT_ONCE = 32 << 20


@dataclass(frozen=True, slots=True)
class Pending:
    """A file whose chunks have been packed, and whose manifest is still to be written."""

    path: str
    manifest: Manifest  # complete but for its table and sequence
    rows: array[int]
    last_pack: int = -1  # the newest of this operation's packs that it needs


class Committer:
    """Writes the manifests of one operation, several at once."""

    def __init__(
        self, transport: Transport, catalog: Catalog, grace: float, existing: set[str] | None, *, replace_files: bool
    ) -> None:
        self._transport = transport
        self._catalog = catalog
        # Without a grace period there is nothing to keep to: it promises that nothing else uses the store.
        self._check_age = min(grace / 4 or math.inf, MAX_CHECK_AGE)
        self._pool = ThreadPoolExecutor(PARALLEL_WRITES, thread_name_prefix="shardflow-commit")
        self._revealer = Revealer(transport, self._pool, existing, self._look_again, replace_files=replace_files)
        self._safe: dict[int, float] = {}  # packs, and when they were last seen to be there and not set aside

    @property
    def unchanged(self) -> int:
        return self._revealer.unchanged

    @property
    def written(self) -> int:
        return self._revealer.written

    def commit(self, files: list[Pending]) -> None:
        """Start writing the manifests of files whose packs are all in the store."""
        packed = [file for file in files if len(file.rows)]
        checked = self._make_safe(packed)
        for file in files:
            if len(file.rows) and seconds() - checked > self._check_age:
                checked = self._make_safe(packed)
            manifest = file.manifest
            if len(file.rows):
                table, sequence = self._catalog.table(file.rows)
                manifest = replace(manifest, table=table, sequence=sequence)
            self._revealer.reveal(Ready(file.path, manifest, checked))

    def drain(self) -> None:
        """Wait until every manifest is written; raises what failed."""
        self._revealer.drain()

    def close(self) -> None:
        self._revealer.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make_safe(self, files: list[Pending]) -> float:
        """Leave no file dependent on a pack that is gone or set aside; returns when this was established."""
        while True:
            started = seconds()
            rows = array("I", chain.from_iterable(file.rows for file in files))
            used = {self._catalog.pack_of(row) for row in self._catalog.with_bases(rows)}
            # Looking again for each of ten thousand files would cost more than all else.
            unsure = {number for number in used if started - self._safe.get(number, -math.inf) > self._check_age / 2}
            doomed = doomed_packs(self._transport) if unsure else set()
            endangered = {number for number in unsure if self._catalog.packs[number] in doomed}
            if not endangered:
                self._check_presence(unsure)
                self._safe.update(dict.fromkeys(unsure, started))
                return min((self._safe[number] for number in used), default=started)
            needed = [row for row in self._catalog.with_bases(rows) if self._catalog.pack_of(row) in endangered]
            self._copy_out(needed)

    def _check_presence(self, used: Iterable[int]) -> None:
        packs = {self._catalog.packs[number] for number in used}
        for pack, there in zip(packs, self._pool.map(self._is_there, packs), strict=True):
            if not there:
                raise _deleted(pack)

    def _look_again(self, ready: Ready) -> None:
        """Before a file becomes visible that waited long for its turn."""
        packs = ready.manifest.table.packs
        if not packs or seconds() - ready.checked <= 2 * self._check_age:
            return
        doomed = doomed_packs(self._transport)
        for pack in packs:
            if pack in doomed or not self._is_there(pack):
                raise _deleted(pack)

    def _is_there(self, pack: bytes) -> bool:
        try:
            self._transport.head(pack_key(pack))
        except ObjectMissing:
            return False
        return True

    def _copy_out(self, rows: list[int]) -> None:
        """Copy chunks from packs that are set aside into a pack that no tombstone can name yet."""
        for batch in _batches(rows, lambda row: self._catalog.location(row)[2]):
            chunks = []
            for row in batch:
                number, offset, stored = self._catalog.location(row)
                entry = self._catalog.entry(row)
                pack = self._catalog.packs[number]
                try:
                    data = self._transport.read_range(pack_key(pack), offset, stored)
                except ObjectMissing:
                    raise _deleted(pack) from None
                self._prove(row, entry, data, pack)
                chunks.append(StoredChunk(entry.chunk, entry.size, entry.codec, data, entry.bases, offset))
            pack, offsets = rewritten(self._transport, chunks, salt=os.urandom(16))
            number = self._catalog.number_of(pack)
            for row, offset in zip(batch, offsets, strict=True):
                self._catalog.move(row, number, offset)

    def _prove(self, row: int, entry: PackEntry, data: memoryview, pack: bytes) -> None:
        """Damage must not spread to a new pack."""
        bases: list[memoryview] = []
        if entry.bases:
            table, (place,) = self._catalog.table(array("I", [row]))
            chunks = PlainChunks(self._transport, table, "what is copied")
            plain = chunks.of(chunks.bases(int(place)))
            bases = [plain[base] for base in chunks.bases(int(place))]
        try:
            decoded(entry.codec, data, entry.chunk, entry.size, bases)
        except CorruptData as error:
            raise ChunkDamaged(
                f"chunk {entry.chunk.hex()[:16]} in pack {pack.hex()[:16]} is damaged: {error.message}", remedy=MEND
            ) from None


def seconds() -> float:
    """A clock that goes on while a laptop sleeps, as the store's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _deleted(pack: bytes) -> PackMissing:
    return PackMissing(
        f"pack {pack.hex()[:16]} was deleted from the store while it was being used",
        remedy="run the same command again",
    )


def _batches(rows: list[int], size_of: Callable[[int], int]) -> Iterable[list[int]]:
    batch: list[int] = []
    total = 0
    for row in rows:
        batch.append(row)
        total += size_of(row)
        if total >= COPIED_AT_ONCE:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
