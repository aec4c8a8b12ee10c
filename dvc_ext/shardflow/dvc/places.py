"""Where in which store a path of DVC or fsspec lies: `s3/bucket/prefix/files/md5/...` is a URL without its scheme."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from shardflow.dvc.remembered import Remembered, remembered_here
from shardflow.store import known
from shardflow.store.errors import StoreMissing
from shardflow.store.store import Store
from shardflow.transport import StoreURL, WrongURL
from shardflow.transport.url import SCHEME

SURE_SECONDS = 5.0
"""For so long after a look nobody looks again whether the store that is written to is there still."""

_PREFIX = f"{SCHEME}://"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Under DVC's own logger, whose level and handler are set already.
_logger = logging.getLogger("dvc.shardflow")


@dataclass(slots=True)
class Places:
    """The stores behind one file system's paths; `root` is where a first write makes one, if it may."""

    root: StoreURL | None
    options: Mapping[str, str]
    _missing: set[StoreURL] = field(default_factory=set)
    _noted: set[Store] = field(default_factory=set)
    _sure_until: float = 0.0

    def to_read(self, path: str) -> tuple[Store, str]:
        """The store a path lies in, and the path it has there; StoreMissing if there is none, told once."""
        url = url_of(path)
        try:
            store, inside = known.found(url, self.options)
        except StoreMissing:
            again = self._known_before(url)
            if again is None:
                self._tell_missing(url)
                raise
            store, inside = again
        self._note(store)
        store.config.check("read", str(store.url))
        return store, inside

    def to_write(self, path: str) -> tuple[Store, str]:
        """The same, or a new store where the remote begins."""
        url = url_of(path)
        if self.root is None or not _lies_in(url, self.root) or monotonic() < self._sure_until:
            store, inside = known.found(url, self.options)
        else:
            store, inside = self._found_or_made(url, self.root)
            self._sure_until = monotonic() + SURE_SECONDS
        self._note(store)
        store.config.check("write", str(store.url))
        return store, inside

    def _found_or_made(self, url: StoreURL, root: StoreURL) -> tuple[Store, str]:
        try:
            return known.found_still(url, self.options)
        except StoreMissing:
            return self._known_before(url) or known.found_to_write(url, root, _tell_made, self.options)

    def _known_before(self, url: StoreURL) -> tuple[Store, str] | None:
        """Where no store was found: none if none is remembered; StoreGone if one is.

        Unless another thread made and noted it since, for which a look after the note is needed.
        """
        remembered = self._remembered()
        used = remembered.used_at(url) if remembered else None
        if not remembered or not used:
            return None
        try:
            return known.found(url, self.options)
        except StoreMissing:
            raise remembered.gone(used) from None

    def _note(self, store: Store) -> None:
        if store not in self._noted:
            self._noted.add(store)
            if remembered := self._remembered():
                remembered.note(store)

    def _remembered(self) -> Remembered | None:
        """Only DVC names a root; and what is in memory is gone with each process."""
        if self.root is None or self.root.backend == "memory":
            return None
        return remembered_here(self.options)

    def _tell_missing(self, url: StoreURL) -> None:
        """DVC takes what is not there for not pushed yet; where a store should be, its user must hear of it."""
        place = self.root if self.root is not None and _lies_in(url, self.root) else url
        if place not in self._missing and self.root is not None:
            self._missing.add(place)
            _logger.warning(
                "there is no store at %s or above it yet: nothing can be read, and the first push makes one", place
            )


def url_of(path: str) -> StoreURL:
    """The URL that a path stands for; refuses what names no backend."""
    # No URL that somebody writes has control characters in it, but names in a store may: all but this one.
    if "\0" in path:
        raise WrongURL(f"{path!r} has a NUL in it, as no name can", remedy="write it without")
    odd = _CONTROL.search(path)
    plain = path[: odd.start()].rpartition("/")[0] if odd else path
    return StoreURL.parse(_PREFIX + plain).joined(path[len(plain) :])


def path_at(store: Store, inside: str) -> str:
    """The path of a file system for one in a store."""
    place = str(store.url).removeprefix(_PREFIX)
    return f"{place}/{inside}" if inside else place


def stripped(path: str) -> str:
    """A path without scheme and without slashes at its end; what has no authority is left for `url_of` to refuse."""
    return path.removeprefix(_PREFIX).rstrip("/")


def _lies_in(url: StoreURL, root: StoreURL) -> bool:
    try:
        url.relative_to(root)
    except WrongURL:
        return False
    return True


def _tell_made(root: StoreURL) -> None:
    _logger.warning("made a new store at %s: there was none there or above it", root)
