"""Files that are to be taken into a store, wherever they are now: on the disk, in a bucket, with MLflow, in a store.

Each kind of place lists its files, and makes of each a source that a store reads. Files on the disk, in buckets and in
stores are read where they are. What only MLflow can fetch is downloaded, one file at a time.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import Buffer

from shardflow.errors import ShardflowError
from shardflow.layout import ReadAt
from shardflow.store.errors import SourceChanged, SourceUnusable
from shardflow.store.reader import Reader
from shardflow.store.sources import EmptyDirectory, FileSource, Source, file_source, walk
from shardflow.store.store import Store
from shardflow.transport import ObjectInfo, Transport

AHEAD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Original:
    """One file of a version; `stamp` is another one if its content may be another."""

    name: str  # below the version; empty where that is a single file
    size: int | None
    stamp: str
    modified: float
    source: Callable[[str], Source | EmptyDirectory]  # for a path in the store


class Place(Protocol):
    """Where the files of a version are."""

    def files(self) -> Iterator[Original]: ...


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file, or everything below a directory."""

    path: Path

    def files(self) -> Iterator[Original]:
        for source in walk(self.path, "") if self.path.is_dir() else [file_source(self.path, "")]:
            if isinstance(source, EmptyDirectory):
                yield Original(source.path, 0, "directory", 0.0, EmptyDirectory)
            else:
                stat = source.found
                yield Original(source.path, stat.st_size, str(stat.st_mtime_ns), stat.st_mtime, _moved(source))


@dataclass(frozen=True, slots=True)
class InBucket:
    """An object, or everything below a prefix."""

    transport: Transport
    key: str
    single: bool = False  # whether the key is that of an object

    def files(self) -> Iterator[Original]:
        for info in [self.transport.head(self.key)] if self.single else self.transport.list(self.key):
            name = info.key.removeprefix(self.key).strip("/")
            yield Original(name, info.size, info.etag or str(info.modified), info.modified, self._source(info))

    def _source(self, info: ObjectInfo) -> Callable[[str], Source]:
        return lambda path: ObjectSource(path, self.transport, info)


@dataclass(frozen=True, slots=True)
class InStore:
    """A file, or everything below a directory, of a store."""

    store: Store
    path: str

    def files(self) -> Iterator[Original]:
        for entry in self.store.ls(self.path, recursive=True, details=True):
            name = entry.path.removeprefix(self.path).strip("/")
            if entry.kind == "directory":
                yield Original(name, 0, "directory", 0.0, EmptyDirectory)
            else:
                yield Original(name, entry.size, entry.digest or "", entry.created or 0.0, self._source(entry.path))

    def _source(self, path: str) -> Callable[[str], Source]:
        return lambda target: StoredSource(target, self.store, path, self.store.manifest(path).size)


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """An object of a bucket, read from start to end with the next part always on its way."""

    path: str
    transport: Transport
    info: ObjectInfo

    @property
    def name(self) -> str:
        return str(self.transport.url.joined(self.info.key))

    @property
    def size(self) -> int:
        return self.info.size

    def open(self) -> io.RawIOBase:
        return _ReadAhead(self.read_at, self.size)

    def random_access(self, _: io.RawIOBase, /) -> ReadAt:
        return self.read_at

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        try:
            return bytes(self.transport.read_range(self.info.key, offset, length))
        except ShardflowError as error:
            raise SourceUnusable(f"{self.name} cannot be read: {error.message}", remedy=error.remedy) from None

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        try:
            now = self.transport.head(self.info.key)
        except ShardflowError as error:
            raise SourceUnusable(f"{self.name} cannot be read: {error.message}", remedy=error.remedy) from None
        if (now.etag, now.size) != (self.info.etag, self.info.size) or read != self.size:
            raise SourceChanged(f"{self.name} changed while it was being read", remedy="run it again")


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A file of a store, as it was when it was opened."""

    path: str
    store: Store
    stored: str
    size: int

    @property
    def name(self) -> str:
        return str(self.store.url.joined(self.stored))

    def open(self) -> io.RawIOBase:
        return self.store.open(self.stored)

    def random_access(self, opened: io.RawIOBase, /) -> ReadAt:
        assert isinstance(opened, Reader)
        return opened.read_at

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        if read != self.size:
            raise SourceChanged(f"{self.name} changed while it was being read", remedy="run it again")


class _ReadAhead(io.RawIOBase):
    """Reads in large parts, the next one while the caller works on the last."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._asked = 0
        self._part = memoryview(b"")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shardflow-ahead")
        self._next: Future[bytes] | None = self._ask()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        view = memoryview(target).cast("B")
        if not len(self._part) and self._next is not None:
            self._part = memoryview(self._next.result())
            self._next = self._ask()
        count = min(len(view), len(self._part))
        view[:count], self._part = self._part[:count], self._part[count:]
        return count

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _ask(self) -> Future[bytes] | None:
        start, length = self._asked, min(AHEAD_BYTES, self._size - self._asked)
        if length <= 0:
            return None
        self._asked += length
        return self._pool.submit(self._read_at, start, length)


def _moved(source: FileSource) -> Callable[[str], Source]:
    return lambda path: FileSource(path, source.file, source.found)


def below(path: str, name: str) -> str:
    """The path of a version's file, or of the version itself."""
    return "/".join(part for part in (path, name) if part)


def pread(opened: io.FileIO) -> ReadAt:
    """Reads anywhere in an open file of the disk."""
    return lambda offset, length: os.pread(opened.fileno(), length, offset)
