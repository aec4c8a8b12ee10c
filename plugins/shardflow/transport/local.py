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
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from shardflow.loans import BufferPool
from shardflow.transport.errors import IT_CHANGED, IT_IS_THERE, AlreadyThere, Changed, NameTaken, Truncated
from shardflow.transport.info import ALWAYS, Condition, ObjectInfo
from shardflow.transport.keys import RESERVED
from shardflow.transport.limits import LIST_PAGE
from shardflow.transport.local_list import names_below, walk
from shardflow.transport.local_lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

# A directory may vanish (its last file was deleted) between being made and being used; each time it is made again.
_MAKE_DIRECTORY_ATTEMPTS = 100

_reads = BufferPool()


class LocalFiles:
    """Objects as files below `root`."""

    splits = False

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._incoming = root / RESERVED

    def read_start(self, key: str, limit: int) -> tuple[memoryview, ObjectInfo]:  # noqa: ARG002
        """The whole file: there is nothing to gain from parts."""
        with self._opened(key) as fd:
            info = described(key, os.fstat(fd))
            return _read_exactly(fd, 0, info.size), info

    def read_range(self, key: str, start: int, length: int, etag: str | None = None) -> memoryview:  # noqa: ARG002
        """`length` bytes from `start`; of one version always, because a file is never written in place."""
        with self._opened(key) as fd:
            return _read_exactly(fd, start, length)

    def head(self, key: str) -> ObjectInfo:
        """What the file system knows of the file."""
        status = self._path(key).stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a file", key)
        return described(key, status)

    def head_with_mark(self, key: str) -> tuple[ObjectInfo, str]:
        """No mark: what became of a write is never in doubt here."""
        return self.head(key), ""

    def write(self, key: str, data: memoryview, condition: Condition = ALWAYS, mark: str = "") -> ObjectInfo:  # noqa: ARG002
        """Write beside, force to the disk, then put in place; nothing is left behind by a failure."""
        target = self._path(key)
        temporary = self._write_temporary(data)
        try:
            status = temporary.stat()
            self._put_in_place(temporary, target, condition)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if self.durable:
            with suppress(FileNotFoundError):  # deleted again already
                sync_directory(target.parent)
        return described(key, status)

    def delete(self, key: str, etag: str | None) -> None:
        """Remove the file, and the directories that are empty without it; with an ETag, only if it still has that."""
        target = self._path(key)
        self._make_directory(self._incoming)
        with locked(self._incoming, alone=etag is not None):
            self._check(target, Condition(etag=etag))
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
            entries = [*os.scandir(self._incoming)]
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
        fd = os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_CLOEXEC)  # to put a Path together takes as long
        try:
            yield fd
        finally:
            os.close(fd)

    def _write_temporary(self, data: memoryview) -> Path:
        path = self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}.part"
        fd = self._create(path)
        try:
            _write_all(fd, data)
            _salt_time(fd)
            if self.durable:
                os.fsync(fd)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(fd)
        return path

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._make_directory(path.parent)
            return os.open(path, flags, 0o666)

    def _put_in_place(self, temporary: Path, target: Path, condition: Condition) -> None:
        for _ in range(_MAKE_DIRECTORY_ATTEMPTS):
            try:
                if condition.absent and _link_if_absent(temporary, target):
                    return
                with locked(self._incoming, alone=bool(condition)):
                    self._check(target, condition)
                    temporary.rename(target)
                return
            except FileNotFoundError:
                with suppress(FileNotFoundError):
                    self._make_directory(target.parent)
        raise NameTaken("its directory keeps vanishing")

    def _check(self, target: Path, condition: Condition) -> None:
        """Runs under the lock, so that what holds here still holds when the file is replaced or removed."""
        if condition.absent and target.exists():
            raise AlreadyThere(IT_IS_THERE)
        if condition.etag is not None and _etag_at(target) != condition.etag:
            raise Changed(IT_CHANGED)

    def _make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        if path != path.parent:
            self._make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        if self.durable:
            sync_directory(path.parent)

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
                sync_directory(directory)


def described(key: str, status: os.stat_result) -> ObjectInfo:
    """An object's description from its file's."""
    return ObjectInfo(key, status.st_size, etag_of(status), status.st_mtime)


def etag_of(status: os.stat_result) -> str:
    """Which file this is, and when and how long it was last written."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def sync_directory(path: Path) -> None:
    """Force the names in a directory to the disk, where the file system knows how to (SMB and some FUSE do not)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


def _etag_at(path: Path) -> str | None:
    try:
        return etag_of(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_exactly(fd: int, start: int, length: int) -> memoryview:
    data, got = _reads.lend(length), 0
    # The kernel may return less than was asked for, and never more than 2 GiB at a time.
    while got < length and (more := os.preadv(fd, [data[got:]], start + got)):
        got += more
    if got < length:
        what = f"it is too short: wanted {length} bytes at {start}, got {got}"
        raise Truncated(what, wanted=length, got=got, remedy="run 'shardflow fsck'")
    return data


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _link_if_absent(temporary: Path, target: Path) -> bool:
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
        temporary.unlink()
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
