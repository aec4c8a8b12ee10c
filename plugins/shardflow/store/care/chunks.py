"""Proves one encoded chunk: decodes it, with what it is coded against, and compares the result with its name."""

from __future__ import annotations

from enum import Enum

import numpy as np
from typing_extensions import Buffer

from shardflow.errors import Cancelled, CorruptData, ShardflowError
from shardflow.store.care.moving import Place, row_entry
from shardflow.store.chunks import KeptChunks
from shardflow.store.errors import FormatUnknown
from shardflow.store.fetch import decoded
from shardflow.store.manifest import Manifest
from shardflow.store.pack import MAX_CHUNK_BYTES, PackEntry, pack_key
from shardflow.transport import Transport

DEEPEST = 100  # chains that writers make are much shorter


class Verdict(Enum):
    GOOD = "good"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"  # coded in a way that this version cannot decode: neither good nor bad
    UNPROVEN = "unproven"  # rests on chunks that cannot be read, or that nobody knows where to find


class BaseUnreadable(ShardflowError):
    """A chunk that another one is coded against cannot be had."""


class BasePlaces:
    """Where the chunks are that others are coded against, as manifests tell; each name's first place counts."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._places: dict[bytes, Place] = {}
        self._kept = KeptChunks()

    def add(self, manifest: Manifest) -> None:
        table = manifest.table
        for row in np.unique(table.base).tolist():
            self._places.setdefault(table.id(row), Place(table.packs[int(table.pack[row])], row_entry(table, row)))

    def plain(self, entry: PackEntry, depth: int = 0) -> list[memoryview]:
        """The plain bytes of what an entry is coded against."""
        if depth > DEEPEST:
            raise BaseUnreadable(f"a chain of more than {DEEPEST} chunks")
        return [self._of(name, depth) for name in entry.bases]

    def _of(self, name: bytes, depth: int) -> memoryview:
        known = self._kept.get(name)
        if known is not None:
            return known
        place = self._places.get(name)
        if place is None:
            raise BaseUnreadable(f"chunk {name.hex()[:16]} is named by no file")
        entry = place.entry
        bases = self.plain(entry, depth + 1)
        try:
            stored = self._transport.read_range(pack_key(place.pack), entry.offset, entry.stored)
            data = memoryview(bytes(decoded(entry.codec, stored, entry.chunk, entry.size, bases)))
        except Cancelled:
            raise
        except ShardflowError as error:
            raise BaseUnreadable(error.message) from None
        self._kept.put(name, data)
        return data


def verdict(entry: PackEntry, stored: Buffer, places: BasePlaces | None = None) -> Verdict:
    """Whether these stored bytes are the chunk that the entry names."""
    if not 0 <= entry.size <= MAX_CHUNK_BYTES or memoryview(stored).nbytes != entry.stored:
        return Verdict.DAMAGED
    if entry.bases and places is None:
        return Verdict.UNPROVEN
    try:
        bases = places.plain(entry) if places else []
        decoded(entry.codec, stored, entry.chunk, entry.size, bases)
    except BaseUnreadable:
        return Verdict.UNPROVEN
    except FormatUnknown:
        return Verdict.UNKNOWN
    except CorruptData:
        return Verdict.DAMAGED
    return Verdict.GOOD
