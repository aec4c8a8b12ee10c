"""A directory of a model, in a store or on the disk, as something to open files in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from shardflow.flavor.errors import ModelMissing, ShardMissing
from shardflow.store.errors import PathMissing
from shardflow.store.parallel import NEAR_READERS, readers
from shardflow.store.reader import Reader
from shardflow.store.store import Store, reading_budget


class OpenFile(Protocol):
    """What reads from any place of a file, from any thread."""

    @property
    def size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def read_at(self, offset: int, length: int, /) -> bytes: ...
    def readinto_at(self, offset: int, target: memoryview, /) -> int: ...
    def mapped(self, offset: int, length: int, /) -> memoryview | None: ...
    def close(self) -> None: ...


class Folder(Protocol):
    """Where a model's files are; names may have `/` in them."""

    @property
    def name(self) -> str: ...
    @property
    def at_once(self) -> int:
        """How many tensors to read at once."""

    def names(self) -> set[str]: ...
    def open(self, name: str, /) -> OpenFile: ...
    def inside(self, name: str, /) -> Folder: ...


class InStore:
    """A place in a store, and what it is called."""

    def __init__(self, store: Store, path: str) -> None:
        self.store = store
        self.path = path

    @property
    def name(self) -> str:
        return str(self.store.url.joined(self.path))


class StoreFolder(InStore):
    """A directory in a store; every byte read from it is verified."""

    @property
    def at_once(self) -> int:
        return readers(self.store.url)

    def names(self) -> set[str]:
        self.store.config.check("read", str(self.store.url))
        try:
            return {entry.path.rpartition("/")[2] for entry in self.store.ls(self.path)}
        except PathMissing as error:
            raise ModelMissing(error.message, remedy=error.remedy) from None

    def open(self, name: str, /) -> OpenFile:
        path = self._path(name)
        try:
            manifest = self.store.manifest(path)
        except PathMissing:
            raise _missing(self.name, name) from None
        # Without the store's cache of chunks: weights go into memory, and not to the disk as well.
        return Reader(path, self.store.transport, manifest, reading_budget(), reload=lambda: self.store.manifest(path))

    def inside(self, name: str, /) -> StoreFolder:
        return StoreFolder(self.store, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


class LocalFolder:
    """A directory on the disk."""

    at_once = NEAR_READERS

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def name(self) -> str:
        return str(self.directory)

    def names(self) -> set[str]:
        try:
            return {entry.name for entry in self.directory.iterdir()}
        except OSError as error:
            raise ModelMissing(f"{self.directory} cannot be read: {error.strerror}") from None

    def open(self, name: str, /) -> OpenFile:
        try:
            return LocalFile(self.directory / name)
        except OSError:
            raise _missing(self.name, name) from None

    def inside(self, name: str, /) -> LocalFolder:
        return LocalFolder(self.directory / name)


class LocalFile:
    """A file on the disk, read without a position."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    @property
    def digest(self) -> str:
        """BLAKE3 of the whole file, by reading all of it."""
        return blake3(max_threads=blake3.AUTO).update_mmap(self._path).hexdigest()

    def read_at(self, offset: int, length: int, /) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def readinto_at(self, offset: int, target: memoryview, /) -> int:
        done = 0
        while done < len(target):
            read = os.preadv(self._file.fileno(), [target[done:]], offset + done)
            if not read:
                break
            done += read
        return done

    def mapped(self, _offset: int, _length: int, /) -> None:
        """Not by pages: this file may be altered in place."""

    def close(self) -> None:
        self._file.close()


def _missing(folder: str, name: str) -> ShardMissing:
    return ShardMissing(f"{folder} has no {name}, which the model needs", remedy="fetch or log the model again")
