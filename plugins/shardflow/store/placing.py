"""One file being written to disk: a hidden partial file that is renamed when all of it is verified.

It is named `.shardflow-<content>.part` in its target's directory. The name follows from the content, so the next
attempt finds it whatever the target is called, and nothing in it is trusted that does not verify. What stands at the
target already is used in the same way, so a new version of a file fetches only what differs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shardflow.store.errors import BadPath, TargetUnusable
from shardflow.store.manifest import U32, Manifest


class PartialFile:
    """The bytes of one file on their way to `target`; any thread may write chunks into their places."""

    def __init__(self, name: str, manifest: Manifest, target: Path) -> None:
        self.name = name
        self.manifest = manifest
        self.target = target
        self._places = _places(manifest)
        self._earlier: list[int] = []
        with told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._partial, self._descriptor, resumed = _claim(target, manifest.digest)
            if resumed:
                self._earlier.append(self._descriptor)
            with contextlib.suppress(OSError):
                self._earlier.append(os.open(target, os.O_RDONLY))
            self._reserve()

    @property
    def rows(self) -> Iterator[int]:
        """Every row that the file needs once, in the order of the file."""
        return (int(row) for row in self._places.order)

    def take_from_earlier(self, row: int) -> bool:
        """Put a chunk in its places from an earlier attempt or the file that stands there, if either has it."""
        table = self.manifest.table
        size, wanted, places = int(table.size[row]), table.id(row), self._places.of(row)
        for descriptor in self._earlier:
            data = os.pread(descriptor, size, places[0])
            if len(data) == size and blake3(data).digest() == wanted:
                for place in places[1:] if descriptor == self._descriptor else places:
                    self.write_at(place, memoryview(data))
                return True
        return False

    def write(self, row: int, data: memoryview) -> None:
        """Put a verified chunk in all its places."""
        for place in self._places.of(row):
            self.write_at(place, data)

    def write_at(self, place: int, data: memoryview) -> None:
        with told(self.target):
            while data:
                written = os.pwrite(self._descriptor, data, place)
                place, data = place + written, data[written:]

    def bytes_of(self, row: int) -> int:
        """How many bytes of the file a row makes."""
        return int(self.manifest.table.size[row]) * len(self._places.of(row))

    @property
    def may_have_some(self) -> bool:
        return bool(self._earlier)

    def finish(self) -> None:
        """Everything is in place: give the file its name."""
        with told(self.target):
            os.ftruncate(self._descriptor, self.manifest.size)
            self._partial.replace(self.target)
        self.close()

    def close(self) -> None:
        """Let go; an unfinished file stays for the next attempt."""
        held = {self._descriptor, *self._earlier} - {-1}
        self._descriptor, self._earlier = -1, []  # a second close must not hit what others opened since
        for descriptor in held:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _reserve(self) -> None:
        """Find out now, not after an hour, that the disk is too small."""
        held = os.fstat(self._descriptor).st_blocks * 512
        free = os.fstatvfs(self._descriptor)
        if self.manifest.size - held > free.f_bavail * free.f_frsize:
            self.close()
            raise TargetUnusable(
                f"{self.target} needs {self.manifest.size} bytes, and {free.f_bavail * free.f_frsize} are free there",
                remedy="free some space, or choose another target",
            )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where in a file its rows go, in columns: a file of a million chunks has a million places."""

    order: U32  # every row that the file needs once, in the order of the file
    rows: U32  # ascending, one for each place
    starts: npt.NDArray[np.int64]  # the places of these rows

    def of(self, row: int) -> list[int]:
        rows = self.rows.data
        places: list[int] = self.starts[bisect_left(rows, row) : bisect_right(rows, row)].tolist()
        return places


def _places(manifest: Manifest) -> _Places:
    sequence = manifest.sequence.copy()  # a column is not aligned in a manifest, and no array to search for that
    starts = np.zeros(len(sequence), np.int64)
    np.cumsum(manifest.table.size[sequence[:-1]], out=starts[1:])
    if (sequence[1:] > sequence[:-1]).all():
        return _Places(sequence, sequence, starts)  # each row in one place, as in most files
    by_row = np.argsort(sequence, kind="stable")
    rows = sequence[by_row]
    firsts = by_row[np.concatenate([[True], rows[1:] != rows[:-1]])]
    return _Places(sequence[np.sort(firsts)], rows, starts[by_row])


def _claim(target: Path, digest: bytes) -> tuple[Path, int, bool]:
    """The partial file of this content, or one of our own while another process works on that; and whether it held
    anything."""
    partial = target.parent / f".shardflow-{digest.hex()[:24]}.part"
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, another process may have finished it and given it its name.
        if partial.stat().st_ino == os.fstat(descriptor).st_ino:
            return partial, descriptor, os.fstat(descriptor).st_size > 0
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return _own_partial(target, digest)


def _own_partial(target: Path, digest: bytes) -> tuple[Path, int, bool]:
    """A partial file that no other process looks for; those that killed ones left are removed."""
    content = f".shardflow-{digest.hex()[:24]}"
    for abandoned in target.parent.glob(f"{content}.*.part"):
        with contextlib.suppress(OSError), abandoned.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            abandoned.unlink()
    while True:
        own = target.parent / f"{content}.{secrets.token_hex(8)}.part"
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if own.stat().st_ino == os.fstat(descriptor).st_ino:
                return own, descriptor, False
        except (BlockingIOError, FileNotFoundError):
            pass  # before it was locked, another process took it for abandoned
        os.close(descriptor)


def file_target(target: Path, name: str) -> Path:
    """Where a file goes: to the target, or into it under its own name if that is a directory."""
    with told(target):
        return target / name if target.is_dir() else target


class TargetDirectory:
    """Places below a target directory, and never outside of it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._real = Path(os.path.realpath(target))

    def file(self, relative: str) -> Path:
        """Where a file goes."""
        path = self._target / relative
        self._check_inside(path.parent)
        return path

    def directory(self, relative: str) -> None:
        """Make a directory."""
        path = self._target / relative
        self._check_inside(path)
        with told(path):
            path.mkdir(parents=True, exist_ok=True)

    def _check_inside(self, directory: Path) -> None:
        # A link in the way would lead files elsewhere.
        real = Path(os.path.realpath(directory))
        if real != self._real and self._real not in real.parents:
            raise BadPath(f"{directory} leads outside of {self._target} by a link", remedy="remove the link")


@contextlib.contextmanager
def told(target: Path) -> Iterator[None]:
    """Failures of the disk, as sentences about the target."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise TargetUnusable(
                f"{target} is too large a file", remedy="the disk or a limit (ulimit -f) allows none as large as this"
            ) from None
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TargetUnusable(
                f"no space left for {target}", remedy="free some space and run the same command again: it resumes"
            ) from None
        raise TargetUnusable(f"{target} cannot be written: {error.strerror}", remedy="choose another target") from None
