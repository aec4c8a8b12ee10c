"""What all kinds of checkpoints do with a store: make one, put small files, notice when a file is not the one saved."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from contextlib import suppress

from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.errors import ShardMissing
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.recipe import StoredFile
from shardflow.store.errors import BadPath, PathMissing, StoreMissing
from shardflow.store.putting import put_sources
from shardflow.store.reader import Reader
from shardflow.store.sources import StreamSource
from shardflow.store.store import Store
from shardflow.transport import Cancellation

_AGAIN = "again-"
_log = logging.getLogger(__name__)


def store_for(url: str) -> tuple[Store, str]:
    """The store that a URL lies in, and the path there; one is made at the URL if it lies in none."""
    try:
        return Store.find(url)
    except StoreMissing:
        store = Store.init(url)
        _log.info("made a store at %s", store.url)
        return store, ""


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


def put_text(store: Store, path: str, data: bytes, cancel: Cancellation | None = None) -> None:
    put_sources(store, [text(path, data)], path, cancel=cancel)


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


def next_directory(used: str) -> str:
    """Where a checkpoint that replaces another puts its files, so that the other one's stay until it is complete."""
    return f"{_AGAIN}{int(used.removeprefix(_AGAIN)) + 1 if used else 1}"


def is_directory(name: str) -> bool:
    """Whether a text that was read is what `next_directory` gives, or nothing."""
    number = name.removeprefix(_AGAIN)
    return not name or (name != number and number.isdecimal() and number.isascii() and 0 < len(number) < 10)
