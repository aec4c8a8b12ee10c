"""Objects of DVC that a repair could not make whole: they count as not there until they are pushed again.

DVC takes a listing of a directory that is there for all of its files, and asks for none of them. So a listing counts as
not there while one of its files does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from threading import Lock
from time import monotonic
from typing import Any

from shardflow.dvc import described
from shardflow.errors import CorruptData, ShardflowError
from shardflow.store.errors import BadPath, PathMissing
from shardflow.store.lacking import note_of, notes
from shardflow.store.parallel import in_parallel
from shardflow.store.paths import key_of
from shardflow.store.store import Store
from shardflow.transport.url import SCHEME

SURE_SECONDS = 60.0
"""For so long after a look nobody looks again: most commands look once."""

# Under DVC's own logger, whose level and handler are set already.
_logger = logging.getLogger("dvc.shardflow")


class Lacking:
    """What repairs noted in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes: set[str] = set()
        self._sure_until = 0.0
        self._told = False

    def among(self, paths: Sequence[str]) -> set[str]:
        """Those of some files that are there and lack something."""
        if not paths or _fetching.get():
            return set()
        self._look()
        if not self._notes:
            return set()
        found = {path for path in paths if note_of(key_of(path)) in self._notes}
        listings = [path for path in paths if described.is_listing(path) and path not in found]
        # Only listings are read: with threads for all of many files, one note would cost more than the look at them.
        whole = in_parallel(self._lists_whole_files, listings)
        found |= {path for path, whole in zip(listings, whole, strict=True) if not whole}
        if found and not self._told:
            self._told = True
            _logger.warning(
                "%s lost data, of %s and maybe others: such files count as not there until they are pushed again, "
                "from a cache that has them",
                self._store.url,
                min(found, key=lambda path: (described.is_listing(path), path)),
            )
        return found

    def forget(self, path: str) -> None:
        """A file was put again."""
        note = note_of(key_of(path)) if self._notes else ""
        if note in self._notes:
            with suppress(ShardflowError):  # it is stored: all that follows is that the next push sends it again
                self._store.transport.delete(note)
            self._notes.discard(note)

    def listing(self, path: str) -> bytes:
        """A listing of a directory, whole; one that a repair could not save is missing."""
        try:
            with self._store.open(path) as file:
                return file.read()
        except CorruptData as error:
            self._look()
            if note_of(key_of(path)) in self._notes:
                raise PathMissing(error.message, remedy="push it again from a cache that has it") from None
            raise

    def _look(self) -> None:
        if monotonic() > self._sure_until:
            self._notes = notes(self._store.transport)
            self._sure_until = monotonic() + SURE_SECONDS

    def _lists_whole_files(self, path: str) -> bool:
        objects = path[: path.rindex("/") - len("ab")]
        try:
            listed = {str(each["md5"]) for each in json.loads(self.listing(path))}
            return not any(note_of(key_of(f"{objects}{md5[:2]}/{md5[2:]}")) in self._notes for md5 in listed)
        except (BadPath, CorruptData, PathMissing, ValueError, LookupError, TypeError):
            return False  # it is no listing any more, and is to be sent again as well


_fetching: ContextVar[bool] = ContextVar("fetching", default=False)


def watch() -> None:
    """Have what DVC fetches count as there in any case: that it cannot be had, and why, is told when it is fetched."""
    from dvc_data.hashfile import status  # noqa: PLC0415  # fsspec's users may do without DVC

    compare = status.compare_status

    def compare_status(src: Any, *others: Any, **options: Any) -> Any:
        token = _fetching.set(src.fs.protocol == SCHEME)
        try:
            return compare(src, *others, **options)
        finally:
            _fetching.reset(token)

    status.compare_status = compare_status


_lacking: dict[Store, Lacking] = {}
_lock = Lock()


def lacking_in(store: Store) -> Lacking:
    """That of this process, whichever of DVC's file systems asks."""
    with _lock:
        return _lacking.setdefault(store, Lacking(store))
