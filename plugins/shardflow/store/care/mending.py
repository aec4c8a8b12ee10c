"""Mends what can be mended: saves good chunks out of damaged packs, finds lost ones elsewhere, and says what is gone.

A damaged pack is moved out of `packs/` in the end, so that no writer takes a chunk in it for granted again; whoever
puts an affected file again then sends what is lost. The order of the steps is that of every change to a store: new
packs, then manifests, and only then the old pack goes. Interrupted at any point, mending is simply begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from shardflow.store.care.damage import Damage, Lost, Needed, examined
from shardflow.store.care.elsewhere import find_elsewhere
from shardflow.store.care.leftovers import DAMAGED
from shardflow.store.care.marking import StoredManifest, all_manifests, read_again
from shardflow.store.care.moving import Copier, Guard, Outcome, rewrite
from shardflow.store.care.progress import CareProgress
from shardflow.store.config import Settings
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.transport import Changed, ObjectMissing, Transport


@dataclass(frozen=True, slots=True)
class LostChunk:
    """A chunk that cannot be read, and the byte of the file where it first belongs."""

    chunk: str
    pack: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class AffectedFile:
    """A file that cannot be read whole. Putting it again mends it."""

    path: str
    chunks: tuple[LostChunk, ...]

    @property
    def bytes(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


@dataclass(slots=True)
class Mended:
    """What mending did."""

    chunks_saved: int = 0  # copied out of damaged packs
    chunks_found: int = 0  # lost, but there in other packs
    packs_written: int = 0
    packs_moved_aside: list[str] = field(default_factory=list)
    manifests_rewritten: int = 0
    not_mended: list[str] = field(default_factory=list)  # sentences

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def affected_files(transport: Transport, damage: Damage, progress: CareProgress) -> list[AffectedFile]:
    """Which files suffer from damage, with the chunks that really cannot be read; changes nothing."""
    needed = Needed.of(transport, _manifests(transport, progress, "looking for affected files"), damage)
    lost = examined(transport, needed, damage)
    return _affected(_again(transport, needed.users), lost)


def mend(
    transport: Transport, settings: Settings, damage: Damage, progress: CareProgress
) -> tuple[Mended, list[AffectedFile]]:
    """Undo damage as far as the store itself allows; returns what was done, and the files that still lack chunks."""
    mended = Mended()
    needed = Needed.of(transport, _manifests(transport, progress, "looking for affected files"), damage)
    copier = Copier(transport, settings.pack_bytes)
    lost = examined(transport, needed, damage, keep=_saver(copier, damage))
    mended.chunks_saved = len(copier)
    avoid = damage.missing | damage.damaged
    still_lost = find_elsewhere(transport, lost, copier, avoid, needed.bases, progress)
    copier.flush()
    mended.chunks_found = len(lost) - len(still_lost)
    mended.packs_written = copier.packs_written
    guard = Guard(transport, settings.gc_grace_seconds)

    def point(manifests: Iterable[StoredManifest]) -> bool:
        return _point(transport, manifests, copier, guard, mended)

    if point(_again(transport, needed.users)):
        for pack in sorted(damage.damaged - lost.unknown):
            _move_aside(transport, pack, mended)
        # Writers that had looked before the packs went may have named them since.
        needed = Needed.of(transport, _manifests(transport, progress, "looking again"), damage)
        point(_again(transport, needed.users))
    for pack in sorted(lost.unknown):
        mended.not_mended.append(
            f"pack {pack.hex()[:16]} holds chunks in an encoding unknown to this version, and stays; upgrade Shardflow"
        )
    return mended, _affected(_again(transport, needed.users), still_lost)


def _saver(copier: Copier, damage: Damage) -> Callable[..., None]:
    def keep(pack: bytes, entry: Any, stored: Any) -> None:
        if pack in damage.damaged:  # a good chunk of a sound pack is where it should be
            copier.add(pack, entry.offset, entry, stored)

    return keep


def _point(
    transport: Transport, manifests: Iterable[StoredManifest], copier: Copier, guard: Guard, mended: Mended
) -> bool:
    """Let manifests read from the new places; False if one could not be made to."""
    done = True
    for found in manifests:
        outcome: Outcome = rewrite(transport, found, copier.moves, guard)
        mended.manifests_rewritten += outcome == "rewritten"
        if outcome == "refused":
            done = False
            mended.not_mended.append(f"{found.path} was being changed, or a collection ran; run the same command again")
    return done


def _move_aside(transport: Transport, pack: bytes, mended: Mended) -> None:
    """Keep a damaged pack for whoever wants to look at it, where nobody takes it for a good one."""
    key = pack_key(pack)
    try:
        info = transport.head(key)
        transport.write(DAMAGED + pack.hex(), transport.read(key))
        transport.delete(key, if_match=info.etag)
    except ObjectMissing:
        return
    except Changed:
        return  # somebody sent it again, and so mended it
    mended.packs_moved_aside.append(pack.hex())


def _affected(manifests: Iterable[StoredManifest], lost: Lost) -> list[AffectedFile]:
    found = []
    for stored in manifests:
        chunks = _lost_chunks(stored.manifest, lost)
        if chunks:
            found.append(AffectedFile(stored.path, chunks))
    return found


def _lost_chunks(manifest: Manifest, lost: Lost) -> tuple[LostChunk, ...]:
    """What a file lacks, in the order of the file; a chunk that only others are coded against counts at its first."""
    table = manifest.table
    sizes = table.size.astype(np.int64)[manifest.sequence]
    starts = np.zeros(len(sizes), np.int64)
    np.cumsum(sizes[:-1], out=starts[1:])
    rows, first = np.unique(manifest.sequence, return_index=True)
    place = dict(zip(rows.tolist(), starts[first].tolist(), strict=True))
    chunks = []
    for row in range(len(table)):
        if lost.has(table.packs[int(table.pack[row])], int(table.offset[row])):
            pack = table.packs[int(table.pack[row])].hex()
            chunks.append(LostChunk(table.id(row).hex(), pack, place.get(row, 0), int(table.size[row])))
    return tuple(sorted(chunks, key=lambda chunk: chunk.start))


def _again(transport: Transport, keys: list[str]) -> Iterable[StoredManifest]:
    return (found for key in keys if (found := read_again(transport, key)) is not None)


def _manifests(transport: Transport, progress: CareProgress, phase: str) -> Iterable[StoredManifest]:
    """Unreadable manifests are told of by the check of the structure; nothing in them can be mended from packs."""
    found = all_manifests(transport, progress, phase=phase)
    return (one for one in found if isinstance(one, StoredManifest))
