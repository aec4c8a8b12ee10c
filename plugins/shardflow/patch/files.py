"""Files to compare or patch, wherever they are: on this disk, or in a store."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

from blake3 import blake3
from typing_extensions import Buffer

from shardflow.delta.bases import Piece, Placed
from shardflow.errors import CorruptData
from shardflow.layout import Layout, ReadAt, inspect
from shardflow.store.errors import PathMissing
from shardflow.store.sources import FileSource, file_source, is_directory, named_place, walk
from shardflow.store.store import Store

READ_BYTES = 8 << 20


@dataclass(eq=False)
class OpenFile:
    """One file that can be read anywhere; as a base, every run of it is one piece."""

    name: str  # below what was named; empty if that is the file itself
    size: int
    raw_read_at: ReadAt
    check_unchanged: Callable[[], None] = lambda: None  # what is stored never changes
    runs: dict[int, tuple[int, int]] = field(default_factory=dict)  # by the keys of its pieces: offset and length
    _keys: Iterator[int] = field(default_factory=count)

    @cached_property
    def layout(self) -> Layout:
        return inspect(self.read_at, self.size)

    @property
    def at_hand(self) -> bool:
        return False  # it may be anywhere

    def read_at(self, offset: int, length: int, /) -> bytes:
        return self.raw_read_at(offset, length)

    def exactly(self, offset: int, length: int) -> bytes:
        """So many bytes; an error if the file has become shorter."""
        data = self.read_at(offset, length)
        if len(data) != length:
            raise CorruptData(f"{self.name or 'the file'} became shorter while it was read", remedy="begin again")
        return data

    def pieces(self, start: int, end: int, /) -> list[Placed]:
        key = next(self._keys)
        self.runs[key] = (start, end - start)
        return [Placed(start, Piece(key, memoryview(self.exactly(start, end - start))))]

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, self.size, READ_BYTES):
            yield self.exactly(start, min(READ_BYTES, self.size - start))

    def digest(self) -> bytes:
        whole = blake3()
        for block in self.blocks():
            whole.update(block)
        return whole.digest()

    def in_order(self) -> io.RawIOBase:
        """The file from its begin to its end."""
        return _InOrder(self)


class _InOrder(io.RawIOBase):
    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        view = memoryview(target).cast("B")
        data = self._file.read_at(self._position, min(len(view), self._file.size - self._position))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def opened(place: str | Path) -> Iterator[list[OpenFile]]:
    """The file at a place, or all files below it, by name."""
    with ExitStack() as stack:
        if "://" in str(place):
            yield _in_store(str(place), stack)
        else:
            yield _on_disk(Path(place), stack)


def _on_disk(place: Path, stack: ExitStack) -> list[OpenFile]:
    found = walk(place, "") if is_directory(place) else [file_source(place, "")]
    return [_file(source, stack) for source in found if isinstance(source, FileSource)]


def _file(source: FileSource, stack: ExitStack) -> OpenFile:
    file = stack.enter_context(source.open())
    return OpenFile(
        source.path, source.size, source.random_access(file), lambda: source.check_unchanged(file, source.size)
    )


def _in_store(url: str, stack: ExitStack) -> list[OpenFile]:
    store, path = Store.find(url)
    if store.kind(path) == "file":
        reader = stack.enter_context(store.open(path))
        return [OpenFile("", reader.size, reader.read_at)]
    files = []
    for entry in store.ls(path, recursive=True):
        if entry.kind == "file":
            reader = stack.enter_context(store.open(entry.path))
            files.append(OpenFile(entry.path[len(path) :].lstrip("/"), reader.size, reader.read_at))
    return files


def one_or_all(files: list[OpenFile], place: str | Path) -> list[OpenFile]:
    """Refuse a place with nothing in it."""
    if not files:
        raise PathMissing(f"{place} has no files", remedy="name a file, or a directory with files")
    return files


def check_readable(place: str | Path) -> None:
    """Tell a missing place by name before any work."""
    if "://" not in str(place) and not is_directory(named_place(place)):
        file_source(Path(place), "")
