"""Makes stored files visible: checks that all they need is there and will stay, then writes manifests, then hints."""

from __future__ import annotations

import math
import os
import time
from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from shardflow.errors import CorruptData, ShardflowError
from shardflow.store.catalog import Catalog
from shardflow.store.chunks import PlainChunks
from shardflow.store.errors import ChunkDamaged, PackMissing, PathTaken
from shardflow.store.fetch import MEND, decoded
from shardflow.store.hints import hint_objects
from shardflow.store.manifest import Manifest, decode_manifest, encode_manifest
from shardflow.store.pack import PackEntry, pack_key
from shardflow.store.paths import key_of, marker_of
from shardflow.store.sending import StoredChunk, rewritten
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import AlreadyThere, ObjectMissing, Transport

PARALLEL_WRITES = 16
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
        self._existing = existing
        self._replace = replace_files
        self._pool = ThreadPoolExecutor(PARALLEL_WRITES, thread_name_prefix="shardflow-commit")
        self._writing: list[Future[bool]] = []
        self._safe: dict[int, float] = {}  # packs, and when they were last seen to be there and not set aside
        self.unchanged = 0
        self.written = 0

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
            self._wait(PARALLEL_WRITES * 4)
            self._writing.append(self._pool.submit(self._write, file.path, manifest, checked))

    def drain(self) -> None:
        """Wait until every manifest is written; raises what failed."""
        self._wait(0)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _wait(self, most: int) -> None:
        while len(self._writing) > most:
            if self._writing.pop(0).result():
                self.written += 1
            else:
                self.unchanged += 1

    def _write(self, path: str, manifest: Manifest, checked: float) -> bool:
        if manifest.table.packs and seconds() - checked > 2 * self._check_age:
            self._look_again(manifest.table.packs)  # it waited long for its turn
        key = marker_of(path) if manifest.kind == "directory" else key_of(path)
        known = self._existing is None or key in self._existing
        if known and self._same_is_there(key, path, manifest):
            self._restore_hints(path, manifest)
            return False
        try:
            self._transport.write(
                key, encode_manifest(manifest), if_absent=not self._replace and manifest.kind == "file"
            )
        except AlreadyThere:
            if self._same_is_there(key, path, manifest):
                return False
            raise PathTaken(f"{path} is stored already, with other content", remedy="choose another path") from None
        self._write_hints(path, manifest)
        return True

    def _same_is_there(self, key: str, path: str, manifest: Manifest) -> bool:
        """Whether the path already has this content, in packs that were just seen to exist."""
        try:
            there = decode_manifest(self._transport.read(key), path)
        except (ObjectMissing, ShardflowError):
            return False
        return there.digest == manifest.digest and set(there.table.packs) <= set(manifest.table.packs)

    def _restore_hints(self, path: str, manifest: Manifest) -> None:
        """A writer that died after its manifest left no hints."""
        first = next(hint_objects(path, manifest), None)
        if first is not None and not self._exists(first[0]):
            self._write_hints(path, manifest)

    def _write_hints(self, path: str, manifest: Manifest) -> None:
        for key, data in hint_objects(path, manifest):
            try:
                self._transport.write(key, data)
            except ShardflowError:
                return  # only a later writer's savings depend on it

    def _make_safe(self, files: list[Pending]) -> float:
        """Leave no file dependent on a pack that is gone or set aside; returns when this was established."""
        while True:
            started = seconds()
            rows = {row for file in files for row in file.rows}
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

    def _look_again(self, packs: Iterable[bytes]) -> None:
        doomed = doomed_packs(self._transport)
        for pack in packs:
            if pack in doomed or not self._is_there(pack):
                raise _deleted(pack)

    def _is_there(self, pack: bytes) -> bool:
        return self._exists(pack_key(pack))

    def _exists(self, key: str) -> bool:
        try:
            self._transport.head(key)
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
                chunks.append(StoredChunk(entry.chunk, entry.size, entry.codec, data, entry.bases))
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
