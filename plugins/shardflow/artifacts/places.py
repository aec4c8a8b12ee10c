"""Where in which store an artifact URI lies; a first write makes the store where the artifact root begins."""

from __future__ import annotations

import logging
import os
import re
from threading import Lock

from shardflow.store.errors import StoreExists, StoreMissing
from shardflow.store.location import read_config
from shardflow.store.paths import normal
from shardflow.store.store import Store
from shardflow.transport import StoreURL, WrongURL

# What MLflow hangs below an artifact root: experiment, then a run, a logged model or a trace, then its artifacts.
_ENTITY = re.compile(r"/([0-9a-f]{32}|models/m-[0-9a-f]{32}|traces/tr-[0-9a-f]+)(/.*)?$")
_EXPERIMENT = re.compile(r"(?<=[^/])/[0-9]+$")

# Under MLflow's own logger, whose level and handler the user has set already.
_logger = logging.getLogger("mlflow.shardflow")
_known: dict[tuple[int, StoreURL], Store] = {}
_lock = Lock()


def found(url: StoreURL) -> tuple[Store, str]:
    """The store that a URL lies in and the path it has there; StoreMissing if there is none.

    MLflow makes a repository for each request, so stores that were found stay known to the process.
    """
    for (process, place), store in list(_known.items()):
        if process == os.getpid():
            try:
                return store, normal(url.relative_to(place))
            except WrongURL:
                continue
    return _found_anew(url)


def found_to_write(url: StoreURL) -> tuple[Store, str]:
    """The same, or a new store; one that was removed under this process is not written to any more."""
    try:
        store, path = found(url)
        if read_config(store.transport) is not None:
            return store, path
        _known.pop((os.getpid(), store.url), None)
        return _found_anew(url)
    except StoreMissing:
        return made(url)


def made(url: StoreURL) -> tuple[Store, str]:
    """A new store at the artifact root above a URL, or the one that another writer made there just now."""
    root = artifact_root(url)
    try:
        Store.init(root)
    except StoreExists:
        return found(url)
    _logger.info("There was no store at %s or above it: made one at %s", url, root)
    return found(url)


def _found_anew(url: StoreURL) -> tuple[Store, str]:
    store, path = Store.find(url)
    with _lock:
        return _known.setdefault((os.getpid(), store.url), store), path


def artifact_root(url: StoreURL) -> StoreURL:
    """The root that a server or an experiment was given, as far as a URL below it tells."""
    entity = _ENTITY.search(url.path)
    if entity is None:
        return url
    above = _EXPERIMENT.sub("", url.path[: entity.start()])
    return StoreURL(url.backend, above) if above else url
