"""Where checkpoints are written and read: a directory that appears at once, a store, a temporary copy of one."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.store.errors import PathMissing, TargetUnusable
from shardflow.store.putting import put_sources
from shardflow.store.sources import walk
from shardflow.store.store import Store
from shardflow.transport.url import SCHEME

_AS_LARGE_AS_THEY_ARE = frozenset({"safetensors", "torch", "torch-zstd", "dcp"})  # code nothing, or only afterwards
_MOST_CODED = 1000  # no weights become so many times smaller
_TRIES, _PAUSE_SECONDS, _STAYS_AWAY = 40, 0.05, 3


def in_store(place: str | Path) -> bool:
    return str(place).startswith(f"{SCHEME}:")


@contextmanager
def written_to_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory beside the target that becomes it at the end; nothing is left of it after a failure."""
    target = target.absolute()
    if not replace:
        _require_free(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        partial.mkdir(parents=True)
        yield partial
        _put_in_place(partial, target, replace)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        _remove_tree(partial)


def _remove_tree(directory: Path) -> None:
    """Remove what a failure left, and what writes that had been begun by then still make: until it stays away."""
    away = 0 if directory.exists() else _STAYS_AWAY
    for _ in range(_TRIES):
        if away >= _STAYS_AWAY:
            return
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(_PAUSE_SECONDS)
        away = 0 if directory.exists() else away + 1


def require_room(directory: Path, format: str, size: int) -> None:  # noqa: A002
    """Refuse to begin with tensors that cannot all be written, since a file of a few bytes may claim any number."""
    usage = shutil.disk_usage(directory)
    most = usage.free if format in _AS_LARGE_AS_THEY_ARE else usage.free * _MOST_CODED
    if usage.total and size > most:  # some file systems know nothing of themselves
        raise TargetUnusable(
            f"the tensors are {size:,} bytes, and there are {usage.free:,} on the disk that has {directory.parent}",
            remedy="make room, or name another place",
        )


@contextmanager
def written_to_store(url: str, last: str, *, replace: bool = False) -> Iterator[Path]:
    """A temporary directory that is put into a store at the end, the file that completes it after all others."""
    store, path = Store.find(url)
    if not replace:
        require_free(store, path)
    with tempfile.TemporaryDirectory(prefix="shardflow-") as made:
        directory = Path(made) / "checkpoint"
        directory.mkdir()
        yield directory
        final = Path(made) / last
        (directory / last).rename(final)
        before = files_at(store, path)
        give_up = giving_up(store, before & {f"{path}/{last}"})
        if others := list(walk(directory, path)):
            put_sources(store, others, path, before_visible=give_up)
        store.put(final, f"{path}/{last}")
        names = {f"{path}/{file.relative_to(directory)}" for file in directory.rglob("*") if file.is_file()}
        remove(store, before - names - {f"{path}/{last}"})


def require_free(store: Store, path: str) -> None:
    """Refuse a path of a store that holds something."""
    try:
        store.kind(path)
    except PathMissing:
        return
    if path:
        raise CheckpointExists(
            f"{store.url.joined(path)} exists", remedy="save to another path, or say that it is to be replaced"
        )


def files_at(store: Store, path: str) -> set[str]:
    """The files below a path of a store, or the one at it."""
    try:
        return {entry.path for entry in store.ls(path, recursive=True) if entry.kind == "file"}
    except PathMissing:
        return set()


def giving_up(store: Store, completing: set[str]) -> Callable[[], None]:
    """What a put does when all that is new has arrived, and the first of it is to take the place of something old.

    Without the file that completes it nobody takes the old files, or some of each, for a whole checkpoint.
    """
    return lambda: remove(store, completing)


def remove(store: Store, paths: Iterable[str]) -> None:
    for path in sorted(paths):
        with suppress(PathMissing):
            store.rm(path)


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A copy of what is stored at a URL, as long as it is needed."""
    store, path = Store.find(url)
    with tempfile.TemporaryDirectory(prefix="shardflow-") as made:
        place = Path(made) / (path.rpartition("/")[2] or "checkpoint")
        store.get(path, place)
        yield place


def _require_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise CheckpointExists(f"{target} exists", remedy="save to another path, or say that it is to be replaced")


def _put_in_place(partial: Path, target: Path, replace: bool) -> None:
    old = partial.with_suffix(".old")
    moved = replace and (target.exists() or target.is_symlink())
    if moved:
        target.rename(old)
    try:
        partial.rename(target)
    except OSError as error:
        if moved:
            old.rename(target)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise CheckpointExists(f"{target} was made by somebody else meanwhile", remedy="use another path") from None
        raise
    if moved:
        # A link makes place for the checkpoint; what it points to is another's.
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()


def _unwritable(target: Path, error: OSError) -> TargetUnusable:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return TargetUnusable(f"{target} cannot be written: {reason}", remedy="make room, or name another place")
