"""Moves chunks: copies them into new packs, then points manifests at the copies.

This is how repacking and repairing change a store. New packs have a random salt, so their names are new and no
tombstone can hold them. A manifest is replaced only on condition that it is still the one that was read; if somebody
wrote it meanwhile, it is read again. Until then the old places serve, and afterwards the old packs are left to
garbage collection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

import numpy as np
from typing_extensions import Buffer

from shardflow.errors import ShardflowError
from shardflow.store.care.marking import StoredManifest, read_again
from shardflow.store.commit import seconds
from shardflow.store.manifest import ChunkTable, Manifest, encode_manifest
from shardflow.store.pack import PackBuilder, PackEntry, pack_key
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import Changed, ObjectMissing, Transport

ATTEMPTS = 8
MAX_LOOK_AGE = 600.0

Outcome = Literal["rewritten", "unchanged", "gone", "refused"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies, and how it is stored there."""

    pack: bytes
    entry: PackEntry


class Moves:
    """For places that are to be left: where the same chunk is to be read from now on."""

    def __init__(self) -> None:
        self._by_pack: dict[bytes, dict[int, Place]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pack: bytes, offset: int, place: Place) -> None:
        places = self._by_pack.setdefault(pack, {})
        self._count += offset not in places
        places[offset] = place

    def has(self, pack: bytes, offset: int) -> bool:
        return offset in self._by_pack.get(pack, ())

    def out_of(self, pack: bytes) -> dict[int, Place]:
        return self._by_pack.get(pack, {})


class Copier:
    """Fills new packs with encoded chunks that were proven good, and notes each move; `flush` at the end."""

    def __init__(self, transport: Transport, pack_bytes: int) -> None:
        self.moves = Moves()
        self.packs_written = 0
        self.bytes_written = 0
        self._transport = transport
        self._pack_bytes = pack_bytes
        self._builder: PackBuilder | None = None
        self._memory: memoryview | None = None
        self._origins: list[list[tuple[bytes, int]]] = []
        self._open: dict[bytes, int] = {}  # chunk to its entry in the pack being filled
        self._placed: dict[bytes, Place] = {}
        self._leaving: set[tuple[bytes, int]] = set()  # places whose chunk is in the pack being filled

    def __len__(self) -> int:
        """How many places were copied from."""
        return len(self.moves) + len(self._leaving)

    def has(self, pack: bytes, offset: int) -> bool:
        """Whether the chunk at a place was copied already."""
        return self.moves.has(pack, offset) or (pack, offset) in self._leaving

    def add(self, pack: bytes, offset: int, entry: PackEntry, stored: Buffer) -> None:
        """Copy a chunk from its place; a chunk that was copied before is not copied again."""
        known = self._placed.get(entry.chunk)
        if known is not None and known.entry.bases == entry.bases:
            self.moves.add(pack, offset, known)
            return
        if entry.chunk in self._open and not entry.bases:
            self._origins[self._open[entry.chunk]].append((pack, offset))
            self._leaving.add((pack, offset))
            return
        if self._builder is not None and not self._builder.fits(entry.stored):
            self.flush()
        if self._builder is None:
            self._builder = PackBuilder(self._pack_bytes, self._memory, salt=os.urandom(16))
            self._memory = self._builder.memory
        self._builder.add(entry.chunk, entry.size, entry.codec, (stored,), entry.bases, offset)
        if not entry.bases:
            self._open[entry.chunk] = len(self._origins)
        self._origins.append([(pack, offset)])
        self._leaving.add((pack, offset))

    def flush(self) -> None:
        """Write what has been collected."""
        if self._builder is None:
            return
        finished = self._builder.finish()
        self._transport.write(pack_key(finished.id), finished.data, content_addressed=True)
        for entry, origins in zip(finished.entries, self._origins, strict=True):
            place = self._placed[entry.chunk] = Place(finished.id, entry)
            for pack, offset in origins:
                self.moves.add(pack, offset, place)
        self.packs_written += 1
        self.bytes_written += finished.data.nbytes
        self._builder, self._origins, self._open, self._leaving = None, [], {}, set()


class Guard:
    """Keeps to the writers' side of the agreement with collections: looks before a manifest names a pack anew."""

    def __init__(self, transport: Transport, grace: float) -> None:
        self._transport = transport
        self._valid_for = min(grace / 4, MAX_LOOK_AGE)
        self._looked = -1.0
        self._doomed: set[bytes] = set()
        self._there: dict[bytes, bool] = {}
        self._lock = Lock()

    def unfit(self, packs: Iterable[bytes]) -> set[bytes]:
        """Those of some packs that are set aside, or gone."""
        with self._lock:
            if self._looked < 0 or seconds() - self._looked > self._valid_for:
                self._looked = seconds()
                self._doomed = doomed_packs(self._transport)
                self._there = {}
            return {pack for pack in packs if pack in self._doomed or not self._is_there(pack)}

    def _is_there(self, pack: bytes) -> bool:
        if pack not in self._there:
            try:
                self._transport.head(pack_key(pack))
                self._there[pack] = True
            except ObjectMissing:
                self._there[pack] = False
        return self._there[pack]


def pointed(manifest: Manifest, moves: Moves) -> Manifest | None:
    """The manifest with moved chunks at their new places; None if none of its chunks moved."""
    table = manifest.table
    numbers = {name: number for number, name in enumerate(table.packs)}
    pack, offset, stored, codec = table.pack.copy(), table.offset.copy(), table.stored.copy(), table.codec.copy()
    changed = False
    for number, name in enumerate(table.packs):
        places = moves.out_of(name)
        for row in np.flatnonzero(table.pack == number).tolist() if places else ():
            place = places.get(int(table.offset[row]))
            if place is None or not _same(table, row, place.entry):
                continue
            pack[row] = numbers.setdefault(place.pack, len(numbers))
            offset[row], stored[row], codec[row] = place.entry.offset, place.entry.stored, place.entry.codec
            changed = True
    if not changed:
        return None
    packs = list(numbers)
    used, pack_column = np.unique(pack, return_inverse=True)
    moved = replace(
        table,
        packs=tuple(packs[number] for number in used),
        pack=pack_column.astype(np.uint32),
        offset=offset,
        stored=stored,
        codec=codec,
    )
    return replace(manifest, table=moved)


def rewrite(transport: Transport, found: StoredManifest, moves: Moves, guard: Guard) -> Outcome:
    """Replace a manifest by one that reads from the new places; refused if a new place may not be named."""
    for _ in range(ATTEMPTS):
        changed = pointed(found.manifest, moves)
        if changed is None:
            return "unchanged"
        # Packs that it named before may be named on, even if set aside: the name of the file keeps them in use
        # without a gap, so every mark sees them.
        if guard.unfit(set(changed.table.packs) - set(found.manifest.table.packs)):
            return "refused"
        if found.etag is None:
            raise ShardflowError(f"{transport.url} gives no ETags, so nothing in it can be moved safely")
        try:
            transport.write(found.key, encode_manifest(changed), if_match=found.etag)
            return "rewritten"
        except (Changed, ObjectMissing):
            again = read_again(transport, found.key)
        if again is None:
            return "gone"
        found = again
    return "refused"


def row_entry(table: ChunkTable, row: int) -> PackEntry:
    """A row of a manifest in the form of a pack's own index."""
    return PackEntry(
        table.id(row),
        int(table.offset[row]),
        int(table.stored[row]),
        int(table.size[row]),
        int(table.codec[row]),
        tuple(table.id(base) for base in table.bases(row)),
    )


def _same(table: ChunkTable, row: int, entry: PackEntry) -> bool:
    bases = tuple(table.id(base) for base in table.bases(row))
    return entry.chunk == table.id(row) and entry.size == int(table.size[row]) and entry.bases == bases
