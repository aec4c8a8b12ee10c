"""Reads every manifest of a store (or below a path), several at once: what is reachable, and what cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shardflow.errors import CorruptData, ShardflowError
from shardflow.store.care.progress import CareProgress
from shardflow.store.errors import BadPath, FormatUnknown
from shardflow.store.manifest import Manifest
from shardflow.store.manifest_at import manifest_at
from shardflow.store.parallel import in_parallel
from shardflow.store.paths import TREE, path_of
from shardflow.transport import ObjectInfo, ObjectMissing, Transport


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest and the object it was read from."""

    key: str
    path: str
    size: int  # of the object
    etag: str | None  # as listed: if the object was replaced before it was read, a write on this condition fails
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object where manifests are, and why it is none."""

    key: str
    path: str
    error: ShardflowError


def read_manifests(
    transport: Transport, found: Iterable[ObjectInfo], progress: CareProgress | None = None
) -> Iterator[StoredManifest | Unreadable]:
    """Manifests of listed objects, in their order; those removed since are left out."""
    for read in in_parallel(lambda info: _read(transport, info), found):
        if progress is not None:
            progress.add()
        if read is not None:
            yield read


def all_manifests(
    transport: Transport, progress: CareProgress | None = None, *, prefix: str = TREE, phase: str = "reading manifests"
) -> Iterator[StoredManifest | Unreadable]:
    """Every manifest below a prefix of keys, in the order of the keys."""
    found = list(transport.list(prefix))
    if progress is not None:
        progress.begin(phase, len(found))
    return read_manifests(transport, found, progress)


def readable(found: Iterable[StoredManifest | Unreadable]) -> Iterator[StoredManifest]:
    """Manifests only; the first object that is none is an error, for work that must know them all."""
    for one in found:
        if isinstance(one, Unreadable):
            raise one.error
        yield one


def read_again(transport: Transport, key: str) -> StoredManifest | None:
    """A manifest as it is now; None if it is gone or no longer one."""
    try:
        # Head first: should it be replaced in between, the ETag is the older one, and a write on it fails.
        read = _read(transport, transport.head(key))
    except ObjectMissing:
        return None
    return read if isinstance(read, StoredManifest) else None


def _read(transport: Transport, info: ObjectInfo) -> StoredManifest | Unreadable | None:
    path = info.key
    try:
        path = path_of(info.key)
        manifest = manifest_at(transport, info.key, path or info.key)
    except ObjectMissing:
        return None
    except (CorruptData, FormatUnknown, BadPath) as error:
        return Unreadable(info.key, path, error)
    return StoredManifest(info.key, path, info.size, info.etag, manifest)
