"""Looks for lost chunks in all packs of a store, by the packs' own indexes, and proves what it finds."""

from __future__ import annotations

from collections.abc import Collection

from shardflow.store.care.chunks import BasePlaces, Verdict, verdict
from shardflow.store.care.damage import Lost
from shardflow.store.care.moving import Copier, Place
from shardflow.store.care.packs import listed_packs, pack_indexes
from shardflow.store.care.progress import CareProgress
from shardflow.store.pack import pack_key
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import ObjectMissing, Transport, Truncated


def find_elsewhere(
    transport: Transport,
    lost: Lost,
    copier: Copier,
    avoid: Collection[bytes],
    bases: BasePlaces,
    progress: CareProgress,
) -> Lost:
    """Note a move for every lost place whose chunk is found in a sound pack; returns what stays lost."""
    wanted: dict[bytes, list[Place]] = {}
    for place in lost:
        wanted.setdefault(place.entry.chunk, []).append(place)
    packs = {pack: info for pack, info in listed_packs(transport).items() if pack not in avoid} if wanted else {}
    doomed = doomed_packs(transport) if wanted else set()
    progress.begin("looking for lost chunks", len(packs))
    for pack, index in pack_indexes(transport, packs.values()):
        progress.add()
        for entry in index if isinstance(index, list) else ():
            if entry.chunk in wanted:
                places = wanted[entry.chunk]
                served = _serve(transport, Place(pack, entry), places, copier, bases, copy=pack in doomed)
                wanted[entry.chunk] = [place for place in places if place not in served]
    return _remaining(wanted, lost)


def _serve(
    transport: Transport, found: Place, places: list[Place], copier: Copier, bases: BasePlaces, *, copy: bool
) -> list[Place]:
    """Move places to where their chunk was found, if it is good there: by copying it if that pack is set aside."""
    fitting = [place for place in places if place.entry.bases == found.entry.bases and place != found]
    if not fitting:
        return []
    try:
        stored = transport.read_range(pack_key(found.pack), found.entry.offset, found.entry.stored)
    except (ObjectMissing, Truncated):
        return []
    if verdict(found.entry, stored, bases) is not Verdict.GOOD:
        return []
    for place in fitting:
        if copy:
            copier.add(place.pack, place.entry.offset, found.entry, stored)
        else:
            copier.moves.add(place.pack, place.entry.offset, found)
    return fitting


def _remaining(wanted: dict[bytes, list[Place]], lost: Lost) -> Lost:
    remaining = Lost(unknown=lost.unknown)
    for places in wanted.values():
        for place in places:
            remaining.add(place.pack, place.entry)
    return remaining
