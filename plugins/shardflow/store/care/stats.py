"""What a store (or a part of it) holds, what that takes, and what was saved by which means.

The figures of content add up exactly:

    logical - saved by dedup - saved by encoding - saved by delta = chunks stored + inline

and so do those of packs:

    packs = chunks stored + slack + unreferenced

where unreferenced includes what is set aside, and no pack is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shardflow.codec import CodecId
from shardflow.store.care.marking import StoredManifest, Unreadable, all_manifests, read_manifests
from shardflow.store.care.packs import listed_packs
from shardflow.store.care.progress import CareProgress
from shardflow.store.care.spots import Spots
from shardflow.store.hints import HINTS
from shardflow.store.manifest import Manifest
from shardflow.store.paths import key_of, prefix_of
from shardflow.store.store import Store
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import Cancellation, Transport


@dataclass(frozen=True, slots=True)
class CodecShare:
    """The chunks of one encoding."""

    codec: str
    chunks: int
    size: int
    stored: int


@dataclass(frozen=True, slots=True)
class WholeStore:
    """What only makes sense for all of a store. In bytes, but for the counts."""

    packs: int
    pack_bytes: int
    slack: int  # in packs that are in use: chunks nothing needs, and the packs' own indexes
    unreferenced_packs: int
    unreferenced: int
    set_aside: int  # of unreferenced: in a tombstone
    manifest_bytes: int
    hints: int
    hint_bytes: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures of the files at or below a path. In bytes, but for the counts."""

    path: str
    files: int
    directories: int  # that are empty, and so stored themselves
    logical: int
    inline: int  # files small enough to live in their manifests
    chunks: int
    chunks_stored: int
    unique_chunk_bytes: int  # decoded, each different chunk once
    saved_by_dedup: int
    saved_by_encoding: int
    saved_by_delta: int
    codecs: tuple[CodecShare, ...]
    unreadable: int  # manifests that could not be read, and so are in no figure
    whole: WholeStore | None  # None for a part of a store

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    store: Store, path: str = "", *, progress: CareProgress | None = None, cancel: Cancellation | None = None
) -> StoreStats:
    """Figures of a file, of everything below a directory, or of the whole store."""
    store.config.check("read", str(store.url))
    transport = store.transport.session(cancel=cancel)
    count = _Count()
    for found in _manifests(store, transport, path, progress):
        if isinstance(found, Unreadable):
            count.unreadable += 1
        else:
            count.add(found.manifest, found.size)
    return count.stats(path, None if path else _whole(transport, count))


class _Count:
    """Sums over manifests."""

    def __init__(self) -> None:
        self.files = self.directories = self.logical = self.inline = self.manifest_bytes = self.unreadable = 0
        self.spots = Spots()

    def add(self, manifest: Manifest, manifest_bytes: int) -> None:
        self.files += manifest.kind == "file"
        self.directories += manifest.kind == "directory"
        self.logical += manifest.size
        self.inline += len(manifest.inline or b"")
        self.manifest_bytes += manifest_bytes
        self.spots.add(manifest)

    def stats(self, path: str, whole: WholeStore | None) -> StoreStats:
        size, stored = self.spots["size"].astype(np.int64), self.spots["stored"].astype(np.int64)
        content, delta = self.spots["content"], self.spots["delta"]
        _, firsts = np.unique(self.spots["name"], return_index=True)
        # Bases that are part of no file take space only for the deltas on them, which therefore save that much less.
        only_bases = int(stored[~content].sum())
        return StoreStats(
            path=path,
            files=self.files,
            directories=self.directories,
            logical=self.logical,
            inline=self.inline,
            chunks=len(size),
            chunks_stored=int(stored.sum()),
            unique_chunk_bytes=int(size[firsts].sum()),
            saved_by_dedup=self.logical - self.inline - int(size[content].sum()),
            saved_by_encoding=int((size - stored)[content & ~delta].sum()),
            saved_by_delta=int((size - stored)[content & delta].sum()) - only_bases,
            codecs=_by_codec(self.spots),
            unreadable=self.unreadable,
            whole=whole,
        )


def _by_codec(spots: Spots) -> tuple[CodecShare, ...]:
    known = {int(codec): codec.name.lower() for codec in CodecId}
    shares = []
    for code in np.unique(spots["codec"]).tolist():
        of_it = spots["codec"] == code
        sums = (int(spots[column][of_it].sum(dtype=np.int64)) for column in ("size", "stored"))
        shares.append(CodecShare(known.get(code, f"codec-{code}"), int(of_it.sum()), *sums))
    return tuple(shares)


def _whole(transport: Transport, count: _Count) -> WholeStore:
    packs = listed_packs(transport)
    live = count.spots.live()
    unreferenced = packs.keys() - live.keys()
    set_aside = unreferenced & doomed_packs(transport)
    hints = [info.size for info in transport.list(HINTS)]
    in_use = packs.keys() & live.keys()
    return WholeStore(
        packs=len(packs),
        pack_bytes=sum(info.size for info in packs.values()),
        slack=sum(packs[pack].size - live[pack].bytes for pack in in_use),
        unreferenced_packs=len(unreferenced),
        unreferenced=sum(packs[pack].size for pack in unreferenced),
        set_aside=sum(packs[pack].size for pack in set_aside),
        manifest_bytes=count.manifest_bytes,
        hints=len(hints),
        hint_bytes=sum(hints),
    )


def _manifests(
    store: Store, transport: Transport, path: str, progress: CareProgress | None
) -> Iterator[StoredManifest | Unreadable]:
    if path and store.kind(path) == "file":
        return read_manifests(transport, [transport.head(key_of(path))], progress)
    return all_manifests(transport, progress, prefix=prefix_of(path))
