"""A sender of packs and all that it works with, and a transport that lets them through one by one."""

from __future__ import annotations

import threading
from pathlib import Path

from shardflow import codec
from shardflow.dtype import DType
from shardflow.store.catalog import Catalog
from shardflow.store.journal import Journal
from shardflow.store.pack import pack_of_key
from shardflow.store.sending import PackSender
from shardflow.transport import AccessDenied, ByteBudget, Totals, Transport
from store.samples import in_memory, named

PACK_BYTES = 10_000


class Gated(Transport):
    """Lets writes through one by one, or makes them fail."""

    gate: threading.Semaphore
    failing = False

    def write(self, key: str, data: object, **options: object) -> object:  # type: ignore[override]
        if self.failing:
            raise AccessDenied("no", remedy="ask")
        assert self.gate.acquire(timeout=10)
        return super().write(key, data, **options)  # type: ignore[arg-type]


class Bench:
    """A sender and all it works with."""

    def __init__(self, place: Path, transport: Transport | None = None, budget: int = 1 << 30) -> None:
        self.transport = transport or in_memory()
        self.totals = Totals()
        self.catalog = Catalog()
        self.journal = Journal("id", place)
        self.budget = ByteBudget(budget)
        self.sender = PackSender(
            self.transport.session(totals=self.totals), self.catalog, self.journal, self.budget, PACK_BYTES
        )

    def add(self, data: bytes) -> int:
        encoded = codec.encode(data, DType.BYTES)
        return self.sender.add(named(data), len(data), encoded.codec, encoded.parts)

    def packs(self) -> dict[bytes, bytes]:
        found = {}
        for info in self.transport.list("packs/"):
            pack = pack_of_key(info.key)
            assert pack is not None
            found[pack] = bytes(self.transport.read(info.key))
        return found
