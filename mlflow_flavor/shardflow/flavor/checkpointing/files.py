"""What all kinds of checkpoints do with a store: make one, put small files, notice when a file is not the one saved."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.checkpointing.reaching import naming_the_tensor
from shardflow.flavor.errors import ShardMissing
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.recipe import StoredFile
from shardflow.store.errors import BadPath, PathMissing, StoreExists, StoreMissing
from shardflow.store.location import read_config
from shardflow.store.progress import Progress
from shardflow.store.putting import put_sources
from shardflow.store.reader import Reader
from shardflow.store.sources import Source, StreamSource
from shardflow.store.store import Store
from shardflow.transport import Cancellation

_log = logging.getLogger(__name__)


def store_for(url: str) -> tuple[Store, str]:
    """The store that a URL lies in, and the path there; one is made at the URL if it lies in none."""
    try:
        return Store.find(url)
    except StoreMissing:
        pass
    try:
        store = Store.init(url)
    except StoreExists:
        return Store.find(url)  # somebody else made it just now
    _log.info("made a store at %s", store.url)
    return store, ""


def require_store(store: Store) -> None:
    """Refuse to write where the store was removed meanwhile, or made anew: nobody would find what is written there."""
    found = read_config(store.transport)
    if found is None or found.id != store.config.id:
        raise StoreMissing(f"the store at {store.url} was removed", remedy="open another checkpointer")


def base_in(store: Store, place: str) -> str:
    """The path of a base that the user names by a URL."""
    home, path = Store.find(place)
    if home.config.id != store.config.id:
        raise BadPath(f"{place} is not in the store at {store.url}", remedy="name a base in the same store")
    store.kind(path)
    return path


def still_there(store: Store, base: str | None) -> str | None:
    """A base that somebody removed is none: what is stored only takes more room then."""
    try:
        if base is not None:
            store.kind(base)
    except PathMissing:
        return None
    return base


def put_against(
    store: Store,
    sources: Sequence[Source],
    path: str,
    base: str | None,
    *,
    progress: Progress | None = None,
    **wishes: Any,
) -> None:
    """Put the files of a checkpoint, coded against a base as long as nobody removes that meanwhile."""
    base = still_there(store, base)
    wishes |= {"merges": False, "progress": progress if progress is not None else Progress()}
    with naming_the_tensor(sources, wishes["progress"]):
        try:
            put_sources(store, sources, path, base=base, **wishes)
        except PathMissing:
            if base is None or still_there(store, base) is not None:
                raise
            put_sources(store, sources, path, **wishes)


def below(store: Store, path: str) -> set[str]:
    """The paths of all files at or below one."""
    try:
        return {entry.path for entry in store.ls(path, recursive=True)}
    except PathMissing:
        return set()


def forget(store: Store, paths: Iterable[str]) -> None:
    """Remove names, in this order; somebody else may have done so."""
    for path in paths:
        with suppress(PathMissing):
            store.rm(path)


def text(path: str, data: bytes) -> StreamSource:
    """A small file that is in memory."""
    return StreamSource(path, io.BytesIO(), data, ended=True)


def put_text(store: Store, path: str, data: bytes, cancel: Cancellation | None = None, *, replace: bool = True) -> None:
    """A small file; PathTaken if there is another one and it is not to be replaced."""
    store.put(io.BytesIO(data), path, replace=replace, deltas=False, cancel=cancel)


def read_small(store: Store, path: str) -> bytes:
    """A whole file that has little in it."""
    with store.open(path) as file:
        return file.read_at(0, file.size)


def as_stored(store: Store, path: str) -> StoredFile:
    """A file that was just put, as a reader has to find it."""
    stat = store.stat(path)
    return StoredFile(path.rpartition("/")[2], stat.size, stat.digest or "")


def opened(folder: StoreFolder, file: StoredFile, name: str, holds: str = "") -> Reader:
    """One of the files of a checkpoint, which must be the one that was written; `holds` says what it is wanted for."""
    what = f"{file.name}, which has {holds}" if holds else file.name
    try:
        reader = folder.open(file.name)
    except ShardMissing:
        raise CheckpointDamaged(f"{name} has lost {what}", remedy="load another checkpoint") from None
    assert isinstance(reader, Reader)
    if reader.size != file.size or reader.digest != file.digest:
        reader.close()
        raise CheckpointDamaged(f"{name} has another {what}, than was saved", remedy="load another checkpoint")
    return reader
