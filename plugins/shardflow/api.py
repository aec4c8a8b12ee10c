"""The small Python face of Shardflow: functions over URLs, for programs that need one thing done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from shardflow.store.config import Settings
from shardflow.store.entries import Entry, Stat
from shardflow.store.progress import Progress
from shardflow.store.reader import Reader
from shardflow.store.store import Store

Options = Mapping[str, str] | None


def init(url: str, settings: Settings | None = None, *, options: Options = None) -> Store:
    """Make a store at a URL."""
    return Store.init(url, settings, options)


def put(
    source: str | Path | BinaryIO,
    url: str,
    *,
    replace: bool = True,
    deltas: bool = True,
    base: str | None = None,
    adapter: str | Path | None = None,
    options: Options = None,
) -> Progress:
    """Store a file, a directory or a stream at a URL, against earlier versions; returns what was done and sent."""
    store, path = Store.find(url, options)
    return store.put(source, path, replace=replace, deltas=deltas, base=base, adapter=adapter)


def get(url: str, target: str | Path, *, options: Options = None) -> Progress:
    """Write what is stored at a URL to disk, verified."""
    store, path = Store.find(url, options)
    return store.get(path, target)


def open(url: str, *, options: Options = None) -> Reader:  # noqa: A001  # shardflow.open, as gzip.open
    """A stored file as a read-only, seekable file object; only what is read is fetched, and all of it is verified."""
    store, path = Store.find(url, options)
    return store.open(path)


def ls(url: str, *, recursive: bool = False, options: Options = None) -> list[Entry]:
    """What is stored right below a URL, or at any depth, with sizes and digests."""
    store, path = Store.find(url, options)
    return list(store.ls(path, recursive=recursive, details=True))


def stat(url: str, *, options: Options = None) -> Stat:
    """Size, digest and storage of a file, or of everything below a directory."""
    store, path = Store.find(url, options)
    return store.stat(path)


def rm(url: str, *, recursive: bool = False, options: Options = None) -> int:
    """Remove a file's name, or every name below a directory; returns how many files."""
    store, path = Store.find(url, options)
    return store.rm(path, recursive=recursive)
