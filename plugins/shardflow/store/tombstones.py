"""Tombstones: packs a garbage collection found unused, set aside until a later one may delete them.

They are the agreement between writers and collectors, who never lock each other out. A collector deletes a pack only
if it was listed here for a whole grace period and is still unused at the end of it. A writer that is about to name a
listed pack in a manifest copies what it needs into a new pack first. Whatever the order in which the two act, either
the collector sees the manifest or the writer sees the tombstone.

A tombstone whose packs were dealt with is not removed at once but `released`: no collector deletes on its strength any
more, and writers still keep away from its packs for another grace period. By then every collector that had read it
before has finished or given up, so none can delete a pack that a writer has meanwhile come to rely on again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from shardflow.store.errors import ManifestDamaged
from shardflow.transport import Changed, ObjectInfo, ObjectMissing, Transport

TRASH = "trash/"


class Doomed(msgspec.Struct, frozen=True, array_like=True):
    """A pack as it was when it was found unused."""

    pack: bytes
    size: int
    etag: str | None


class Tombstone(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one collection set aside."""

    packs: list[Doomed]
    released: bool = False


@dataclass(frozen=True, slots=True)
class FoundTombstone:
    key: str
    written: float  # by the store's clock; for a released one, when it was released
    etag: str | None
    packs: tuple[Doomed, ...]
    released: bool


def write_tombstone(transport: Transport, packs: list[Doomed]) -> str:
    key = f"{TRASH}{uuid.uuid4().hex}"
    transport.write(key, msgspec.msgpack.encode(Tombstone(packs)))
    return key


def tombstones(transport: Transport) -> Iterator[FoundTombstone]:
    for info in transport.list(TRASH):
        found = read_tombstone(transport, info)
        if found is not None:
            yield found


def read_tombstone(transport: Transport, info: ObjectInfo) -> FoundTombstone | None:
    """One tombstone that was listed; None if it is gone, which it is only long after its packs were settled."""
    try:
        tombstone = msgspec.msgpack.decode(transport.read(info.key), type=Tombstone)
    except ObjectMissing:
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ManifestDamaged(
            f"the tombstone {info.key} is not valid ({error})",
            remedy="run 'shardflow fsck --repair', which removes it: it only delays cleaning",
        ) from None
    return FoundTombstone(info.key, info.modified, info.etag, tuple(tombstone.packs), tombstone.released)


def release(transport: Transport, found: FoundTombstone) -> None:
    """Say that a tombstone's packs are settled; fine if another collection said so first."""
    try:
        settled = Tombstone(list(found.packs), released=True)
        transport.write(found.key, msgspec.msgpack.encode(settled), if_match=found.etag)
    except (Changed, ObjectMissing):
        pass


def remove_released(transport: Transport, found: FoundTombstone) -> bool:
    """Take away a tombstone that was released a grace period ago."""
    try:
        return transport.delete(found.key, if_match=found.etag)
    except Changed:
        return False


def doomed_packs(transport: Transport) -> set[bytes]:
    """Packs no new manifest may name."""
    return {doomed.pack for found in tombstones(transport) for doomed in found.packs}
