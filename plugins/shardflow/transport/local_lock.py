"""The lock that makes compare-and-swap on a directory: an flock on one file, held for a rename and no longer.

Who looks before he acts has it alone. Plain writes share it: they may meet each other, and no one who looked.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardflow.transport.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(directory: Path, *, alone: bool) -> Iterator[None]:
    """Hold the lock in `directory`, alone or with others who share it.

    Some file systems (Lustre, some NFS mounts) have no locks. Those who would share it can do without: a rename is
    atomic. Those who need it alone cannot, and are refused.
    """
    fd = _open(directory / "lock")
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        except OSError as error:
            if alone:
                raise TransportError(
                    f"the file system of {directory} has no locks", remedy="mount it with flock, or use another place"
                ) from error
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """For writing, as NFS wants it; for reading where the lock is another user's, which is enough everywhere else."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
