"""Which chunks a put may rely on: those of its own packs, and those of packs that are there still."""

from __future__ import annotations

from collections.abc import Container

from shardflow.store.catalog import Catalog
from shardflow.store.chunks import MOST_BASE_BYTES
from shardflow.store.journal import Journal
from shardflow.store.pack import pack_key
from shardflow.transport import ObjectMissing, Transport


class Presence:
    """Asks the store for each pack that a hint or the journal led to, once."""

    def __init__(self, transport: Transport, catalog: Catalog, journal: Journal, own: Container[int]) -> None:
        self._transport = transport
        self._catalog = catalog
        self._journal = journal
        self._own = own
        self._seen: dict[int, bool] = {}

    def find(self, chunk: bytes) -> int | None:
        """The catalog's row for a chunk of that name that is in the store, or on its way there."""
        row = self._catalog.find(chunk)
        # Nobody could read what rests on more, as it may where the chain of one file came to stand on another's.
        if row is None or self._catalog.rests_on_more(row, MOST_BASE_BYTES):
            return None
        return row if self._is_there(self._catalog.pack_of(row)) else None

    def _is_there(self, number: int) -> bool:
        if number in self._own:
            return True
        present = self._seen.get(number)
        if present is None:
            present = self._seen[number] = self._asked(self._catalog.packs[number])
        return present

    def _asked(self, pack: bytes) -> bool:
        try:
            self._transport.head(pack_key(pack))
        except ObjectMissing:
            self._journal.settle([pack])
            return False
        return True
