"""What can be put into a store: a file, everything below a directory, or a stream of bytes."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from typing_extensions import Buffer

from shardflow.layout import ReadAt
from shardflow.store.errors import SourceChanged, SourceUnusable
from shardflow.store.paths import normal

# Readers of a directory take it as complete when they see one of these, so they become visible after all else.
WRITTEN_LAST = frozenset({"MLmodel"})
HEAD_BYTES = 8 << 20
_PARTIAL = re.compile(r"\.shardflow-[0-9a-f]{24}(\.[0-9a-f]+)?\.part")


class Source(Protocol):
    """Bytes to store under `path`; `size` is None when only reading to the end will tell.

    `random_access` reads ahead of the one pass that stores: anywhere, or in the first HEAD_BYTES where size is None.
    """

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    def open(self) -> io.RawIOBase: ...
    def random_access(self, opened: io.RawIOBase, /) -> ReadAt: ...
    def check_unchanged(self, opened: io.RawIOBase, read: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A regular file, as it was when it was found."""

    path: str
    file: Path
    found: os.stat_result

    @property
    def name(self) -> str:
        return str(self.file)

    @property
    def size(self) -> int:
        return self.found.st_size

    def open(self) -> io.RawIOBase:
        try:
            opened = self.file.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(self.file, error) from None
        try:
            self._compare(os.fstat(opened.fileno()))
        except SourceChanged:
            opened.close()
            raise
        return opened

    def random_access(self, opened: io.RawIOBase, /) -> ReadAt:
        """Reads anywhere in the file; what is asked for inside of it is there, or it has become shorter."""

        def read_at(offset: int, length: int) -> bytes:
            data = os.pread(opened.fileno(), length, offset)
            if len(data) < min(length, self.size - offset):
                raise self._changed("became shorter")
            return data

        return read_at

    def check_unchanged(self, opened: io.RawIOBase, read: int, /) -> None:
        """Refuse a file that was written, truncated or replaced while it was read."""
        self._compare(os.fstat(opened.fileno()))
        try:
            self._compare(self.file.stat())
        except OSError:
            raise self._changed("was removed") from None
        if read != self.size:
            raise self._changed(f"gave {read} bytes of {self.size}")

    def _compare(self, now: os.stat_result) -> None:
        if _identity(now) != _identity(self.found):
            raise self._changed("changed")

    def _changed(self, how: str) -> SourceChanged:
        return SourceChanged(
            f"{self.file} {how} while it was being read", remedy="run it again once nothing writes to it"
        )


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A stream that can be read once. Its head is read beforehand: a short stream is as good as a file then."""

    path: str
    stream: BinaryIO
    head: bytes
    ended: bool

    @classmethod
    def begun(cls, path: str, stream: BinaryIO) -> StreamSource:
        """Reads as much as tells what a stream is like."""
        head, source = bytearray(), _Unclosed(stream)
        while len(head) < HEAD_BYTES:
            data = source.read(HEAD_BYTES - len(head))
            if not data:
                return cls(path, stream, bytes(head), ended=True)
            head += data
        return cls(path, stream, bytes(head), ended=False)

    @property
    def name(self) -> str:
        return "the stream"

    @property
    def size(self) -> int | None:
        return len(self.head) if self.ended else None

    def open(self) -> io.RawIOBase:
        return _Unclosed(self.stream, self.head)

    def random_access(self, _: io.RawIOBase, /) -> ReadAt:
        """Reads anywhere in the head."""
        return lambda offset, length: self.head[offset : offset + length]

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        """Nobody else can change what was read once."""


@dataclass(frozen=True, slots=True)
class EmptyDirectory:
    """A directory with nothing in it, which still has to come back."""

    path: str


class _Unclosed(io.RawIOBase):
    """A caller's stream, left open when the writer is done with it, after what was read of it already."""

    def __init__(self, stream: BinaryIO, head: bytes = b"") -> None:
        self._stream = stream
        self._head = memoryview(head)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        view = memoryview(target).cast("B")
        if len(self._head):
            count = min(len(view), len(self._head))
            view[:count], self._head = self._head[:count], self._head[count:]
            return count
        try:
            read = self._stream.read(len(view))
        except OSError as error:
            what = f"the stream cannot be read: {error.strerror or error}"
            raise SourceUnusable(what, remedy="see to what it comes from") from None
        try:
            data = memoryview(read).cast("B")
        except TypeError:  # text, or None where a pipe that does not wait has nothing yet
            raise SourceUnusable(
                f"the stream gives {type(read).__name__}, not bytes", remedy="open it in binary mode, and blocking"
            ) from None
        view[: len(data)] = data
        return len(data)


def named_place(source: str | Path) -> Path:
    """What a caller names; not an empty name, which would be the current directory's."""
    if source == "":
        raise SourceUnusable("an empty path names nothing", remedy="name a file or a directory")
    return Path(source)


def is_directory(place: Path) -> bool:
    """Whether that is where files are; SourceUnusable where nobody can tell."""
    try:
        return stat.S_ISDIR(place.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(place, error) from None


def unreadable(place: Path, error: OSError, what: str = "read") -> SourceUnusable:
    """What the file system refused, told of the place."""
    forbidden = error.errno in (errno.EACCES, errno.EPERM)
    remedy = "ask for the right to read it" if forbidden else "see what is there"
    return SourceUnusable(f"{place} cannot be {what}: {error.strerror}", remedy=remedy)


def file_source(file: Path, path: str) -> FileSource:
    try:
        found = file.stat()
    except FileNotFoundError:
        what = "is a link to nothing" if file.is_symlink() else "does not exist"
        raise SourceUnusable(f"{file} {what}") from None
    except OSError as error:
        raise unreadable(file, error) from None
    if not stat.S_ISREG(found.st_mode):
        raise SourceUnusable(f"{file} is neither a file nor a directory", remedy="pipe it in as a stream with '-'")
    return FileSource(path, file, found)


def expected(sources: Sequence[Source | EmptyDirectory]) -> tuple[int, int]:
    """How many files there are to be, and how many bytes of them, as far as that is known."""
    files = [source for source in sources if isinstance(source, FileSource)]
    return len(files), sum(source.size for source in files)


def walk(directory: Path, path: str) -> Iterator[FileSource | EmptyDirectory]:
    """Every file below a directory, by name, links followed; what others look for last comes last."""
    last: list[FileSource] = []
    for source in _walk(directory, path, ()):
        if isinstance(source, FileSource) and source.file.name in WRITTEN_LAST:
            last.append(source)
        else:
            yield source
    yield from last


def _walk(directory: Path, path: str, above: tuple[str, ...]) -> Iterator[FileSource | EmptyDirectory]:
    here = os.path.realpath(directory)
    if here in above:
        raise SourceUnusable(f"{directory} links back to a directory that holds it", remedy="remove the link")
    try:
        # An unfinished get's file is no content of the directory.
        names = sorted(entry.name for entry in os.scandir(directory) if not _PARTIAL.fullmatch(entry.name))
    except OSError as error:
        raise unreadable(directory, error, "listed") from None
    if not names:
        yield EmptyDirectory(path)
    for name in names:
        # A name that cannot be stored is told now, not after all that comes before it has been sent.
        inner, inner_path = directory / name, normal(f"{path}/{name}" if path else name)
        if is_directory(inner):
            yield from _walk(inner, inner_path, (*above, here))
        else:
            yield file_source(inner, inner_path)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
