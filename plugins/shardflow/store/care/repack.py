"""Repack: gathers what is still needed of packs that are mostly unneeded or very small into full ones.

Chunks of a file are copied in the order of the file, so that reading it takes few requests again. The old packs are
left to garbage collection. Memory is bounded by working in groups: so many chunks are copied, then the manifests that
use them are pointed at the copies, then the next group's turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from typing_extensions import Buffer

from shardflow.store.care.chunks import BasePlaces, Verdict, verdict
from shardflow.store.care.marking import StoredManifest, all_manifests, read_again, readable
from shardflow.store.care.moving import Copier, Guard, Outcome, rewrite, row_entry
from shardflow.store.care.packs import listed_packs
from shardflow.store.care.progress import CareProgress
from shardflow.store.care.spots import Live, Spots
from shardflow.store.fetch import Range, ranges
from shardflow.store.manifest import ChunkTable, Manifest
from shardflow.store.pack import HEAD_BYTES, TAIL_BYTES, PackEntry, pack_key
from shardflow.store.parallel import in_parallel
from shardflow.store.store import Store
from shardflow.transport import Cancellation, ObjectMissing, Truncated

GROUP_CHUNKS = 200_000  # about 100 MiB of notes on where they went
READ_TOGETHER = 32 << 20
READERS = 8
INDEX_ENTRY_BYTES = 52  # at most, in the index of a pack whose chunks stand on their own


@dataclass(frozen=True, slots=True)
class RepackReport:
    """What repacking did, or in a dry run would do."""

    packs: int
    sparse_packs: int  # rewritten because little of them is needed
    small_packs: int  # rewritten to be joined
    bytes_before: int  # of the packs rewritten
    bytes_copied: int  # what of them is needed
    packs_written: int
    manifests_rewritten: int
    manifests_skipped: int  # were being changed: they keep reading from the old packs
    chunks_damaged: int  # left where they are, for fsck
    dry_run: bool

    @property
    def bytes_freed(self) -> int:
        """What collections can free afterwards."""
        return self.bytes_before - self.bytes_copied

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"bytes_freed": self.bytes_freed}


def repack(
    store: Store,
    *,
    threshold: float = 0.5,
    small: float = 0.25,
    dry_run: bool = False,
    progress: CareProgress | None = None,
    cancel: Cancellation | None = None,
) -> RepackReport:
    """Rewrite packs of which less than `threshold` is needed, and packs smaller than `small` of a full one (if there
    are several). Run garbage collection afterwards, twice, to free the old ones."""
    store.config.check("write", str(store.url))
    repacking = _Repacking(store, progress or CareProgress(), cancel)
    repacking.choose(threshold, small)
    if not dry_run:
        repacking.run()
    return repacking.report(dry_run=dry_run)


class _Repacking:
    """The state of one repacking."""

    def __init__(self, store: Store, progress: CareProgress, cancel: Cancellation | None) -> None:
        self._transport = store.transport.session(cancel=cancel)
        self._settings = store.config.settings
        self._progress = progress
        self._guard = Guard(self._transport, self._settings.gc_grace_seconds)
        self._packs = listed_packs(self._transport)
        self._copied = self._written = self._rewritten = 0
        self._damaged: set[tuple[bytes, int]] = set()
        self._unknown: set[tuple[bytes, int]] = set()
        self._skipped: set[str] = set()
        self._places = BasePlaces(self._transport)

    def choose(self, threshold: float, small: float) -> None:
        """Which packs to rewrite. What is not named at all is for garbage collection."""
        spots = Spots()
        for found in readable(all_manifests(self._transport, self._progress)):
            spots.add(found.manifest)
        live = {pack: named for pack, named in spots.live().items() if pack in self._packs}
        self._sparse = {
            pack for pack, named in live.items() if named.bytes < threshold * _room(self._packs[pack].size, named)
        }
        # Below half a pack each, any two or more of them take fewer packs together: repacking comes to an end.
        limit = min(small, 0.5) * self._settings.pack_bytes
        self._small = {pack for pack in live if self._packs[pack].size < limit} - self._sparse
        if len(self._small) + len(self._sparse) < 2:
            self._small = set()
        self._chosen = self._sparse | self._small
        self._needed = sum(live[pack].bytes for pack in self._chosen)

    def run(self) -> None:
        """Copy and point, group by group."""
        if not self._chosen:
            return
        self._progress.begin("repacking", self._needed, "bytes")
        users = [
            found.key
            for found in readable(all_manifests(self._transport))
            if not self._chosen.isdisjoint(found.manifest.table.packs)
        ]
        at = 0
        while at < len(users):
            copier = Copier(self._transport, self._settings.pack_bytes)
            at = self._copy_group(copier, users, at)
            copier.flush()
            self._written += copier.packs_written
            self._point(copier, users)

    def report(self, *, dry_run: bool) -> RepackReport:
        return RepackReport(
            packs=len(self._packs),
            sparse_packs=len(self._sparse),
            small_packs=len(self._small),
            bytes_before=sum(self._packs[pack].size for pack in self._chosen),
            bytes_copied=self._needed if dry_run else self._copied,
            packs_written=self._written,
            manifests_rewritten=self._rewritten,
            manifests_skipped=len(self._skipped),
            chunks_damaged=len(self._damaged),
            dry_run=dry_run,
        )

    def _copy_group(self, copier: Copier, users: list[str], start: int) -> int:
        """Copy chunks of manifests from `start` on, until a group is full; returns where to go on."""
        for at, found in enumerate(in_parallel(lambda key: read_again(self._transport, key), users[start:]), start):
            if found is None or found.key in self._skipped:
                continue
            for batch in self._batches(copier, found.manifest):
                self._copy(copier, found, batch)
                if len(copier) >= GROUP_CHUNKS:
                    return at
        return len(users)

    def _batches(self, copier: Copier, manifest: Manifest) -> Iterator[list[int]]:
        """Rows to copy, in the order of the file, as many as are read together."""
        table = manifest.table
        numbers = [number for number, pack in enumerate(table.packs) if pack in self._chosen]
        batch: list[int] = []
        total = 0
        for row in np.flatnonzero(np.isin(table.pack, numbers)).tolist():
            place = table.packs[int(table.pack[row])], int(table.offset[row])
            if copier.has(*place) or place in self._damaged or place in self._unknown:
                continue
            batch.append(row)
            total += int(table.stored[row])
            if total >= READ_TOGETHER:
                yield batch
                batch, total = [], 0
        if batch:
            yield batch

    def _copy(self, copier: Copier, found: StoredManifest, batch: list[int]) -> None:
        """Read the rows in few ranges, prove them, and copy them in their own order."""
        table = found.manifest.table
        self._places.add(found.manifest)
        proven: dict[int, tuple[PackEntry, Buffer, Verdict]] = {}
        for rows in in_parallel(lambda part: self._read(table, part), ranges(table, list(batch)), threads=READERS):
            proven |= rows
        for row in batch:
            entry, stored, what = proven[row]
            pack = table.packs[int(table.pack[row])]
            if what is Verdict.GOOD:
                copier.add(pack, entry.offset, entry, stored)
                self._copied += entry.stored
                self._progress.add(entry.stored)
            else:
                (self._damaged if what is Verdict.DAMAGED else self._unknown).add((pack, entry.offset))

    def _read(self, table: ChunkTable, part: Range) -> dict[int, tuple[PackEntry, Buffer, Verdict]]:
        try:
            data = memoryview(self._transport.read_range(pack_key(part.pack), part.start, part.length))
        except (ObjectMissing, Truncated):
            data = memoryview(b"")
        found: dict[int, tuple[PackEntry, Buffer, Verdict]] = {}
        for row in part.rows:
            entry = row_entry(table, row)
            stored = data[entry.offset - part.start :][: entry.stored]
            found[row] = entry, stored, verdict(entry, stored, self._places)
        return found

    def _point(self, copier: Copier, users: list[str]) -> None:
        """Let manifests read from the copies."""

        def point(key: str) -> Outcome:
            found = read_again(self._transport, key)
            return "gone" if found is None else rewrite(self._transport, found, copier.moves, self._guard)

        for key, outcome in zip(users, in_parallel(point, users), strict=True):
            self._rewritten += outcome == "rewritten"
            if outcome == "refused":
                self._skipped.add(key)


def _room(size: int, named: Live) -> int:
    """The bytes of a pack that could hold chunks, if its index lists no more chunks than are named."""
    return size - HEAD_BYTES - TAIL_BYTES - 5 - INDEX_ENTRY_BYTES * named.chunks
