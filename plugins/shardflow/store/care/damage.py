"""Which packs cannot be trusted, what files need of them, and which of their chunks are still good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from typing_extensions import Buffer

from shardflow.store.care.chunks import BasePlaces, Verdict, verdict
from shardflow.store.care.marking import StoredManifest
from shardflow.store.care.moving import Place, row_entry
from shardflow.store.manifest import Manifest
from shardflow.store.pack import PackEntry, pack_key
from shardflow.store.parallel import in_parallel
from shardflow.transport import ObjectMissing, Transport, Truncated

READERS = 8  # each holds a chunk, so these take 64 MiB at most


@dataclass(slots=True)
class Damage:
    """What a check found wrong with packs, as far as files may suffer from it."""

    missing: set[bytes] = field(default_factory=set)
    damaged: set[bytes] = field(default_factory=set)  # there, but not as they were written
    doubtful: dict[bytes, set[int]] = field(default_factory=dict)  # offsets that a sound pack's own index does not know

    def __bool__(self) -> bool:
        return bool(self.missing or self.damaged or self.doubtful)

    def doubt(self, pack: bytes, offsets: Iterable[int]) -> None:
        self.doubtful.setdefault(pack, set()).update(offsets)

    def rows_of(self, manifest: Manifest) -> Iterator[int]:
        """Rows of a manifest that are touched by it."""
        table = manifest.table
        for number, pack in enumerate(table.packs):
            whole = pack in self.missing or pack in self.damaged
            if whole or pack in self.doubtful:
                for row in np.flatnonzero(table.pack == number).tolist():
                    if whole or int(table.offset[row]) in self.doubtful[pack]:
                        yield row


@dataclass(slots=True)
class Needed:
    """What manifests need of what is damaged, by pack and offset; and the keys of those manifests."""

    bases: BasePlaces
    places: dict[bytes, dict[int, PackEntry]] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, transport: Transport, manifests: Iterable[StoredManifest], damage: Damage) -> Needed:
        needed = cls(BasePlaces(transport))
        for found in manifests:
            needed.bases.add(found.manifest)
            rows = list(damage.rows_of(found.manifest))
            for row in rows:
                entry = row_entry(found.manifest.table, row)
                pack = found.manifest.table.packs[int(found.manifest.table.pack[row])]
                needed.places.setdefault(pack, {})[entry.offset] = entry
            if rows:
                needed.users.append(found.key)
        return needed

    def in_order(self) -> Iterator[Place]:
        for pack, entries in self.places.items():
            for offset in sorted(entries):
                yield Place(pack, entries[offset])


@dataclass(slots=True)
class Lost:
    """Places whose chunk cannot be read there; those of `unknown` may be fine, but this version cannot tell."""

    places: dict[bytes, dict[int, PackEntry]] = field(default_factory=dict)
    unknown: set[bytes] = field(default_factory=set)

    def add(self, pack: bytes, entry: PackEntry) -> None:
        self.places.setdefault(pack, {})[entry.offset] = entry

    def has(self, pack: bytes, offset: int) -> bool:
        return offset in self.places.get(pack, ())

    def __iter__(self) -> Iterator[Place]:
        for pack, entries in self.places.items():
            for entry in entries.values():
                yield Place(pack, entry)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self.places.values())


def examined(
    transport: Transport, needed: Needed, damage: Damage, keep: Callable[[bytes, PackEntry, Buffer], None] | None = None
) -> Lost:
    """Try every needed place by itself; `keep` gets each chunk that is good."""

    def look(place: Place) -> tuple[Place, Buffer, Verdict]:
        if place.pack in damage.missing:
            return place, b"", Verdict.DAMAGED
        try:
            stored = transport.read_range(pack_key(place.pack), place.entry.offset, place.entry.stored)
        except (ObjectMissing, Truncated):
            return place, b"", Verdict.DAMAGED
        return place, stored, verdict(place.entry, stored, needed.bases)

    lost = Lost()
    for place, stored, found in in_parallel(look, needed.in_order(), threads=READERS):
        if found is Verdict.UNKNOWN:
            lost.unknown.add(place.pack)
        elif found is not Verdict.GOOD:  # what rests on lost chunks is lost with them
            lost.add(place.pack, place.entry)
        elif keep is not None:
            keep(place.pack, place.entry, stored)
    return lost
