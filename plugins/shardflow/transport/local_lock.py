"""The lock that makes compare-and-swap on a directory: an flock on one file, held for a rename and no longer."""

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
def locked(directory: Path, *, required: bool) -> Iterator[None]:
    """Hold the lock in `directory`.

    Some file systems (Lustre, some NFS mounts) have no locks. Plain writes can do without: a rename is atomic. A
    conditional one (`required`) cannot, and is refused.
    """
    fd = _open(directory / "lock")
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if required:
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
