"""Stores that this process has found, so that programs which ask for one with each file look for it once.

A first write where there is no store makes one, at the place that the caller names, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from threading import Lock

from shardflow.store.errors import StoreExists, StoreMissing
from shardflow.store.location import Options, read_config
from shardflow.store.paths import normal
from shardflow.store.store import Store
from shardflow.transport import StoreURL, WrongURL

_Key = tuple[int, StoreURL, frozenset[tuple[str, str]]]

_known: dict[_Key, Store] = {}
_lock = Lock()


def found(url: StoreURL, options: Options = None) -> tuple[Store, str]:
    """The store that a URL lies in and the path it has there; StoreMissing if there is none."""
    above = [
        (path, store)
        for (process, place, given), store in list(_known.items())
        if process == os.getpid() and given == _given(options) and (path := _below(url, place)) is not None
    ]
    if not above:
        return _found_anew(url, options)
    path, store = min(above, key=lambda each: len(each[0]))  # of a store in a store, the inner one
    return store, normal(path)


def found_to_write(
    url: StoreURL, root: StoreURL, tell: Callable[[StoreURL], None], options: Options = None
) -> tuple[Store, str]:
    """The same, or a new store at `root`; one that is gone, or another one by now, is not written to any more."""
    try:
        return found_still(url, options)
    except StoreMissing:
        return _made(url, root, tell, options)


def found_still(url: StoreURL, options: Options = None) -> tuple[Store, str]:
    """As `found`, and looked at again: what this process knew may be gone, or another store by now."""
    store, path = found(url, options)
    if read_config(store.transport) == store.config:
        return store, path
    _known.pop(_key(store.url, options), None)
    return _found_anew(url, options)


def _made(url: StoreURL, root: StoreURL, tell: Callable[[StoreURL], None], options: Options) -> tuple[Store, str]:
    """A new store at `root`, or the one that another writer made there just now."""
    try:
        Store.init(root, options=options)
    except StoreExists:
        return found(url, options)
    tell(root)
    return found(url, options)


def _found_anew(url: StoreURL, options: Options) -> tuple[Store, str]:
    store, path = Store.find(url, options)
    with _lock:
        return _known.setdefault(_key(store.url, options), store), path


def _below(url: StoreURL, place: StoreURL) -> str | None:
    try:
        return url.relative_to(place)
    except WrongURL:
        return None


def _key(place: StoreURL, options: Options) -> _Key:
    return os.getpid(), place, _given(options)


def _given(options: Mapping[str, str] | None) -> frozenset[tuple[str, str]]:
    return frozenset((options or {}).items())
