"""The `memory` backend: stores that live as long as the process, for tests and trials."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import obstore
from obstore.store import MemoryStore

from shardflow.transport.errors import IT_CHANGED, Changed
from shardflow.transport.provider import Provider

if TYPE_CHECKING:
    from obstore import PutMode

_STORES: dict[str, tuple[MemoryStore, Lock]] = {}


class Memory(Provider[MemoryStore]):
    """The process-wide store of one name."""

    remote = False

    def __init__(self, name: str) -> None:
        store, self.exclusive = _STORES.setdefault(name, (MemoryStore(), Lock()))
        self._clients = store, store

    def update_mode(self, path: str, etag: str) -> PutMode:  # noqa: ARG002
        return {"e_tag": f'"{etag}"'}

    def delete_unchanged(self, path: str, etag: str) -> None:
        """Compare and delete while no write can come between."""
        with self.exclusive:
            if obstore.head(self.writing, path)["e_tag"] != f'"{etag}"':
                raise Changed(IT_CHANGED)
            obstore.delete(self.writing, path)
