"""Where checkpoints are written and read: a directory that appears at once, a store, a temporary copy of one."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.flavor.formats.exchanging import MARK, put_back, put_in_place
from shardflow.flavor.formats.replacing import replacement, require_free
from shardflow.store.errors import TargetUnusable
from shardflow.store.paths import normal
from shardflow.store.putting import put_sources
from shardflow.store.sources import EmptyDirectory, walk
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
    with suppress(OSError):
        put_back(target)
    if not replace:
        _require_free(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(MARK // 2)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        put_in_place(part, target, replace=replace)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        _remove_tree(part)


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
        with replacement(store, path, replace=replace) as change:
            completing = normal(f"{path}/{last}")
            *others, final = sorted(walk(directory, path), key=lambda source: source.path == completing)
            names = {source.path for source in (*others, final) if not isinstance(source, EmptyDirectory)}
            begin = partial(change.begin, names, completing, checked=False)
            put_sources(store, others or [final], path, before_visible=begin)
            if others:
                put_sources(store, [final], path)
            change.clear(names)
            change.end()


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


def _unwritable(target: Path, error: OSError) -> TargetUnusable:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return TargetUnusable(f"{target} cannot be written: {reason}", remedy="make room, or name another place")
