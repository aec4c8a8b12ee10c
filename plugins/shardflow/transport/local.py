"""The `file` backend: one file an object, each written beside the others and then put in place at once.

It calls the operating system itself, because what a store needs on a disk is not in obstore's local backend: data
forced to the disk before a name appears, compare-and-swap, telling a full disk from a read-only one, and temporary
files that can be recognised and swept up after a writer was killed.
"""

from __future__ import annotations

import builtins
import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from shardflow.loans import BufferPool, fresh
from shardflow.transport.errors import IT_CHANGED, IT_IS_THERE, AlreadyThere, Changed, NameTaken, Truncated
from shardflow.transport.info import ALWAYS, Condition, ObjectInfo
from shardflow.transport.keys import RESERVED
from shardflow.transport.limits import LIST_PAGE
from shardflow.transport.local_forcing import disk_below, force_directory
from shardflow.transport.local_list import names_below, walk
from shardflow.transport.local_lock import locked
from shardflow.transport.local_mapping import PAGE_BYTES, map_pages, pages_at_hand
from shardflow.transport.local_together import FilesTogether

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shardflow.transport.url import StoreURL

# A directory may vanish (its last file was deleted) between being made and being used; each time it is made again.
_MAKE_DIRECTORY_ATTEMPTS = 100
MOST_PARTS = 1024  # of memory that one call to the system fills

_reads = BufferPool(larger_do=True)


class LocalFiles:
    """Objects as files below `root`."""

    splits = False

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self.incoming = root / RESERVED

    def at(self, url: StoreURL) -> LocalFiles:
        return LocalFiles(Path(url.path), durable=self.durable)

    def read_start(self, key: str, limit: int) -> tuple[memoryview, ObjectInfo]:  # noqa: ARG002
        """The whole file: there is nothing to gain from parts."""
        with self._opened(key) as fd:
            info = described(key, os.fstat(fd))
            data = fresh(info.size)
            _fill(fd, 0, [data])
            return data, info

    def read_range(self, key: str, start: int, length: int, etag: str | None = None) -> memoryview:  # noqa: ARG002
        """`length` bytes from `start`; of one version always, because a file is never written in place."""
        with self._opened(key) as fd:
            data = _reads.lend(length)
            _fill(fd, start, [data])
            return data

    def read_into(self, key: str, start: int, parts: Sequence[memoryview]) -> None:
        """What lies from `start` on, straight out of the page cache."""
        with self._opened(key) as fd:
            _fill(fd, start, list(parts))

    def map_pages(self, key: str, start: int, room: memoryview) -> bool:
        """Only what the file holds, so that nothing is missing when it is touched."""
        if not self._maps:
            return False
        with self._opened(key) as fd:
            if os.fstat(fd).st_size <= start + len(room) - PAGE_BYTES:
                return False
            map_pages(fd, start, room)
        return True

    @cached_property
    def _maps(self) -> bool:
        return pages_at_hand(self.root)

    def head(self, key: str) -> ObjectInfo:
        """What the file system knows of the file."""
        status = self._path(key).stat()
        _require_file(status, key)
        return described(key, status)

    def head_with_mark(self, key: str) -> tuple[ObjectInfo, str]:
        """No mark: what became of a write is never in doubt here."""
        return self.head(key), ""

    def write(self, key: str, data: memoryview, condition: Condition = ALWAYS, mark: str = "") -> ObjectInfo:  # noqa: ARG002
        """Write beside, force to the disk, then put in place; nothing is left behind by a failure."""
        temporary = f"{self.incoming}/{os.getpid()}-{secrets.token_hex(8)}.part"
        try:
            self.write_temporary(temporary, data, force=self.durable)
            status = os.stat(temporary)
            changed = self.put_in_place(temporary, f"{self.root}/{key}", condition)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self.durable:
            _force_directories(changed)
        return described(key, status)

    @cached_property
    def together(self) -> FilesTogether | None:
        """Many small files at once, where their file system can force them at once."""
        disk = disk_below(self.root)
        return FilesTogether(self, disk) if disk else None

    def delete(self, key: str, etag: str | None) -> None:
        """Remove the file, and the directories that are empty without it; with an ETag, only if it still has that."""
        target = self._path(key)
        self.make_directory(self.incoming)
        with locked(self.incoming, alone=etag is not None):
            _check(str(target), Condition(etag=etag))
            target.unlink()
        self._drop_empty(target.parent)

    def compares_when_deleting(self) -> bool:
        """Under the lock, always."""
        return True

    def list(self, prefix: str, after: str | None) -> Iterator[builtins.list[ObjectInfo]]:
        """All files below a directory, in the order of their keys."""
        files = walk(self.root, prefix, after or "")
        while page := [described(key, status) for key, status in islice(files, LIST_PAGE)]:
            yield page

    def list_names(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]]:
        """The directories that hold something, and the files, right below a directory."""
        return names_below(self.root, prefix)

    def stale_temporaries(self, older_than: float, now: float) -> builtins.list[ObjectInfo]:
        """What killed writers left: temporary files not touched for `older_than` seconds."""
        try:
            entries = [*os.scandir(self.incoming)]
        except FileNotFoundError:
            return []
        found = []
        for entry in entries:
            with suppress(FileNotFoundError):  # its writer finished while we looked
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".part") and status.st_mtime < now - older_than:
                    found.append(described(f"{RESERVED}/{entry.name}", status))
        return found

    def remove_temporary(self, key: str) -> None:
        """Remove one file that `stale_temporaries` found; fine if it is gone already."""
        with suppress(FileNotFoundError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.root / key

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        # Without O_NONBLOCK a pipe would keep whoever opens it. (And to put a Path together takes as long as this.)
        fd = os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_file(os.fstat(fd), key)
            yield fd
        finally:
            os.close(fd)

    def write_temporary(self, path: str, data: memoryview, *, force: bool) -> None:
        """A new file beside the objects, whose end its caller sees to."""
        fd = self._create(path)
        try:
            _write_all(fd, data)
            _salt_time(fd)
            if force:
                os.fsync(fd)
        finally:
            os.close(fd)

    def put_in_place(self, temporary: str, target: str, condition: Condition) -> builtins.list[str]:
        """Give a finished file its name; returns the directories that have new names in them."""

        def put() -> None:
            if condition.absent and _link_if_absent(temporary, target):
                return
            with locked(self.incoming, alone=bool(condition)):
                _check(target, condition)
                os.rename(temporary, target)

        return self.in_directory(target, put)

    def in_directory(self, target: str, put: Callable[[], None]) -> builtins.list[str]:
        """Do what makes a name, and what it lies in where that is missing; returns the directories with new names."""
        directory = target.rpartition("/")[0]
        changed = [directory]
        for _ in range(_MAKE_DIRECTORY_ATTEMPTS):
            try:
                put()
            except FileNotFoundError:
                with suppress(FileNotFoundError):
                    changed += _made(Path(directory))
            else:
                return changed
        raise NameTaken("its directory keeps vanishing")

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it, on the disk too."""
        above = _made(path)
        if self.durable:
            _force_directories(above)

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            self.make_directory(self.incoming)
            return os.open(path, flags, 0o666)

    def _drop_empty(self, directory: Path) -> None:
        """As on object storage, a directory is there as long as something is in it."""
        while directory != self.root:
            try:
                directory.rmdir()
            except OSError:
                break
            directory = directory.parent
        if self.durable:
            with suppress(FileNotFoundError):
                force_directory(directory)


def described(key: str, status: os.stat_result) -> ObjectInfo:
    """An object's description from its file's."""
    return ObjectInfo(key, status.st_size, etag_of(status), status.st_mtime)


def _require_file(status: os.stat_result, key: str) -> None:
    """Directories, pipes and devices are no objects."""
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a file", key)


def etag_of(status: os.stat_result) -> str:
    """Which file this is, and when and how long it was last written."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _check(target: str, condition: Condition) -> None:
    """Runs under the lock, so that what holds here still holds when the file is replaced or removed."""
    if condition.absent and os.path.exists(target):
        raise AlreadyThere(IT_IS_THERE)
    if condition.etag is not None and _etag_at(target) != condition.etag:
        raise Changed(IT_CHANGED)


def _etag_at(path: str) -> str | None:
    try:
        return etag_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _made(path: Path) -> list[str]:
    """Make a directory and those above it; returns the directories that have new names in them, or may have."""
    if path.is_dir():
        return []
    changed = _made(path.parent) if path != path.parent else []
    with suppress(FileExistsError):
        path.mkdir()
    return [*changed, str(path.parent)]


def _force_directories(paths: list[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):  # deleted again already
            force_directory(path)


def _fill(fd: int, start: int, parts: list[memoryview]) -> None:
    length, got = sum(len(part) for part in parts), 0
    left = parts[::-1]
    while left:
        # The kernel may return less than was asked for, and never more than 2 GiB at a time.
        more = os.preadv(fd, left[: -MOST_PARTS - 1 : -1], start + got)
        if not more and left[-1]:
            what = f"it is too short: wanted {length} bytes at {start}, got {got}"
            raise Truncated(what, wanted=length, got=got, remedy="run 'shardflow fsck'")
        got += more
        while left and more >= len(left[-1]):
            more -= len(left.pop())
        if more:
            left[-1] = left[-1][more:]


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _link_if_absent(temporary: str, target: str) -> bool:
    """Create-only without any lock: a hard link never replaces. False where the file system has no hard links."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise AlreadyThere(IT_IS_THERE) from error
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            return False
        raise
    with suppress(OSError):  # the object is there; a second name for it does no harm
        os.unlink(temporary)
    return True


def _salt_time(fd: int) -> None:
    """Vary the microseconds of the file's time at random.

    Inode numbers are used again and the kernel's clock stands still for milliseconds, so two quick writes of one size
    could otherwise end up with one ETag.
    """
    status = os.fstat(fd)
    written = status.st_mtime_ns - status.st_mtime_ns % 1_000_000 + secrets.randbelow(1_000_000)
    with suppress(OSError):  # a file system that keeps its times to itself
        os.utime(fd, ns=(status.st_atime_ns, written))
