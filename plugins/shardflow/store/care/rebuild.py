"""Makes anew what a store can lose without losing content: hints, and where chunks are to be found.

Hints follow from manifests, which keep the features of their file. What packs hold follows from the packs themselves,
each of which ends with an index. So manifests whose packs were lost can be pointed at any other pack that holds the
same chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from shardflow.store.care.damage import Damage
from shardflow.store.care.marking import all_manifests, readable
from shardflow.store.care.mending import AffectedFile, mend
from shardflow.store.care.packs import listed_packs, pack_indexes
from shardflow.store.care.progress import CareProgress
from shardflow.store.errors import FormatUnknown, PackDamaged
from shardflow.store.hints import hint_objects
from shardflow.store.pack import PackEntry
from shardflow.store.parallel import in_parallel
from shardflow.store.store import Store
from shardflow.transport import Cancellation


@dataclass(frozen=True, slots=True)
class HintsReport:
    """What rebuilding the hints did."""

    manifests: int
    hints: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RepointReport:
    """What pointing manifests at other packs did."""

    packs_missing: int
    chunks_found: int
    manifests_rewritten: int
    affected: tuple[AffectedFile, ...]  # files that still lack chunks
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.affected and not self.notes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def rebuild_hints(
    store: Store, *, progress: CareProgress | None = None, cancel: Cancellation | None = None
) -> HintsReport:
    """Write the hints of every stored file; where files share a slot, the one stored last has it, as always."""
    store.config.check("write", str(store.url))
    progress = progress or CareProgress()
    transport = store.transport.session(cancel=cancel)
    slots: dict[str, tuple[float, bytes]] = {}
    manifests = 0
    for found in readable(all_manifests(transport, progress)):
        manifests += 1
        for key, data in hint_objects(found.path, found.manifest):
            slots[key] = max(slots.get(key, (0.0, b"")), (found.manifest.created, data))
    oldest_first = sorted(slots.items(), key=lambda slot: slot[1][0])
    progress.begin("writing hints", len(oldest_first))
    for _ in in_parallel(lambda slot: transport.write(slot[0], slot[1][1]), oldest_first):
        progress.add()
    return HintsReport(manifests, len(slots))


def pack_contents(
    store: Store, *, cancel: Cancellation | None = None
) -> Iterator[tuple[bytes, list[PackEntry] | PackDamaged | FormatUnknown]]:
    """Every pack with what its own index lists, or with what is wrong with that index."""
    transport = store.transport.session(cancel=cancel)
    yield from pack_indexes(transport, listed_packs(transport).values())


def repoint(store: Store, *, progress: CareProgress | None = None, cancel: Cancellation | None = None) -> RepointReport:
    """Point every manifest that names a missing pack at other packs with the same chunks, each proven first."""
    store.config.check("write", str(store.url))
    progress = progress or CareProgress()
    transport = store.transport.session(cancel=cancel)
    there = listed_packs(transport)
    damage = Damage()
    for found in readable(all_manifests(transport, progress)):
        damage.missing.update(pack for pack in found.manifest.table.packs if pack not in there)
    # A pack that was written after the listing is not missing.
    damage.missing -= listed_packs(transport).keys() if damage.missing else set()
    if not damage:
        return RepointReport(0, 0, 0, (), ())
    mended, affected = mend(transport, store.config.settings, damage, progress)
    return RepointReport(
        len(damage.missing),
        mended.chunks_found,
        mended.manifests_rewritten,
        tuple(affected),
        tuple(mended.not_mended),
    )
