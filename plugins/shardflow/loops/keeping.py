"""Keeps machine code in a directory of the user's own, and takes none back that somebody else may have written."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from shardflow.local_state import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "SHARDFLOW_LOOPS"
LARGEST = 1 << 20
MOST_FILES = 1024  # a few dozen for each version of Shardflow and of numba, and for each kind of processor

_MAGIC = b"shardflow loop 1\n"


class Untrusted(OSError):
    """Somebody else owns it or may write it."""


def directory() -> Path:
    """Where the code is; may be deleted at any time."""
    own = os.environ.get(VARIABLE)
    return Path(own) if own else cache_directory() / "loops"


def kept(key: bytes) -> bytes | None:
    """The code that was kept under 32 bytes, if it is there and whole."""
    try:
        with _opened() as place:
            data = _read(place, key.hex())
    except OSError:
        return None
    head = len(_MAGIC) + 32
    code = data[head:]
    return code if data[:head] == _head(key, code) else None


def keep(key: bytes, code: bytes) -> None:
    """Keep it, in place of what was there; where that cannot be, nothing happens."""
    with suppress(OSError), _made() as place:
        partial = f"{key.hex()}.{os.getpid()}.tmp"
        try:
            _write(place, partial, _head(key, code) + code)
            os.rename(partial, key.hex(), src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            os.unlink(partial, dir_fd=place)
            raise
        _thin_out(place)


def held() -> int:
    """How many files there are; none where they would not be trusted."""
    try:
        with _opened() as place:
            return len(os.listdir(place))  # noqa: PTH208 - by its descriptor
    except OSError:
        return 0


def _head(key: bytes, code: bytes) -> bytes:
    return _MAGIC + blake3(code, key=key).digest()


@contextmanager
def _made() -> Iterator[int]:
    path = directory()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    with _opened() as place:
        yield place


@contextmanager
def _opened() -> Iterator[int]:
    place = os.open(directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _trust(os.fstat(place))
        yield place
    finally:
        os.close(place)


def _trust(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted


def _read(place: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        _trust(status)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise Untrusted
        return file.read()


def _write(place: int, name: str, data: bytes) -> None:
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(name, how, 0o600, dir_fd=place), "wb") as file:  # noqa: PTH123
        file.write(data)


def _thin_out(place: int) -> None:
    """What was written longest ago goes, when there is more than anybody needs."""
    names = os.listdir(place)
    if len(names) > MOST_FILES:
        names.sort(key=lambda name: os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime)
        for name in names[: len(names) - MOST_FILES * 9 // 10]:
            os.unlink(name, dir_fd=place)
