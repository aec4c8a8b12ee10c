"""Forces what was written to the disk: a directory, many files, or all of their file system at once where that pays.

For hundreds of small files one `syncfs` takes a third of the time of an `fsync` of each, as their journal is written
once. But it waits for what others have just written, too. So it is used where little else waits to be written, or once
the files that were forced one by one meanwhile have cost as much as waiting for the rest would.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# File systems of this machine whose `syncfs` leaves all on the disk. Network file systems, FUSE and overlays may not.
TRUSTED = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x01021994: "tmpfs",
}
TELLS_FAILURES = (5, 8)  # the first Linux whose `syncfs` tells that something could not be written

DIRTY_FOR_ONE = 256 << 10
"""Bytes of others that may be written along for each file: as long as that takes, an `fsync` of it does."""

SYNCING_THREADS = 16  # those who wait at the same time share a write of the journal

_UNKNOWN_TO_SOME = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
_WAITING = re.compile(rb"^(?:Dirty|Writeback): +(\d+) kB$", re.MULTILINE)


class Disk:
    """One file system that is trusted to force all that was written to it at once."""

    def __init__(self) -> None:
        self._forced_singly = 0

    @contextmanager
    def watched(self, directory: Path | str) -> Iterator[Callable[[Sequence[str]], None]]:
        """Gives what forces files or directories written in this block; `directory` is any of the same file system.

        It is opened beforehand, as `syncfs` tells of failures since then.
        """
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield lambda paths: self._force(paths, fd)
        finally:
            os.close(fd)

    def _force(self, paths: Sequence[str], fd: int) -> None:
        if not paths:
            return
        if waiting_bytes() <= (self._forced_singly + len(paths)) * DIRTY_FOR_ONE:
            self._forced_singly = 0
            with suppress(OSError):  # a file of someone else, perhaps: each of ours by itself tells
                sync_file_system(fd)
                return
        self._forced_singly += len(paths)
        force_each(paths)


def disk_below(path: Path) -> Disk | None:
    """The file system that a path lies in, or will lie in; None if it cannot be trusted to force all at once."""
    if sys.platform != "linux" or _release() < TELLS_FAILURES:
        return None
    while not path.exists() and path != path.parent:
        path = path.parent
    return Disk() if kind_of_file_system(path) in TRUSTED else None


def force_each(paths: Sequence[str]) -> None:
    """Force files and directories one by one, several at a time; those that are gone again need it no more."""
    if len(paths) == 1:
        _force_if_there(paths[0])
        return
    with ThreadPoolExecutor(min(SYNCING_THREADS, len(paths)), thread_name_prefix="shardflow-sync") as pool:
        list(pool.map(_force_if_there, paths))


def force_directory(path: Path | str) -> None:
    """Force the names in a directory to the disk, where the file system knows how to (SMB and some FUSE do not)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_SOME:
            raise
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """Force all that was written to the file system of an open file."""
    if _libc.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def waiting_bytes() -> int:
    """What this machine has yet to write to its disks; without end where it does not tell."""
    try:
        found = _WAITING.findall(Path("/proc/meminfo").read_bytes())
    except OSError:
        return sys.maxsize
    return sum(int(number) << 10 for number in found) if found else sys.maxsize


def _force_if_there(path: str) -> None:
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


_libc = ctypes.CDLL(None, use_errno=True)


def kind_of_file_system(path: Path) -> int:
    """The number that `statfs` tells first."""
    described = ctypes.create_string_buffer(512)  # a few times as long as the structure is anywhere
    if _libc.statfs(os.fsencode(path), described):
        return 0
    return ctypes.c_ulong.from_buffer(described).value


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
