"""A store whose clock the test sets, seen by processes that may die before any of their changes."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from faults.crashing import Fate, MortalTransport
from shardflow.store.store import Store
from shardflow.transport import Changed, ObjectInfo, ObjectMissing, Transport

HOUR, DAY = 3600.0, 24 * 3600.0
EPOCH = time.time()


@dataclass
class Clock:
    """The store's time: it stands until the test moves it, and stamps what is written."""

    now: float = EPOCH
    written: dict[str, float] = field(default_factory=dict)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class TimedTransport(MortalTransport):
    """Objects carry the world's time, and the ETags of what they lie on."""

    world_clock: Clock

    def write(self, key: str, data: Any, **options: Any) -> ObjectInfo:
        super().write(key, data, **options)
        self.world_clock.written[key] = self.world_clock.now
        return self.head(key)

    def head(self, key: str) -> ObjectInfo:
        return self._described(super().head(key))

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after=after):
            with contextlib.suppress(ObjectMissing):
                yield self._described(info)

    def clock(self) -> float:
        return self.world_clock.now

    def _described(self, info: ObjectInfo) -> ObjectInfo:
        return ObjectInfo(info.key, info.size, info.etag, self.world_clock.written.get(info.key, EPOCH))


class WorldTransport(TimedTransport):
    """ETags follow from the content alone, as on S3 (no help to anybody)."""

    def write(self, key: str, data: Any, *, if_match: str | None = None, **options: Any) -> ObjectInfo:
        self.fate.change("write", key)
        self._compare(key, if_match)
        Transport.write(self, key, data, **options)
        self.world_clock.written[key] = self.world_clock.now
        return self.head(key)

    def delete(self, key: str, *, if_match: str | None = None) -> bool:
        self.fate.change("delete", key)
        with contextlib.suppress(ObjectMissing):
            self._compare(key, if_match)
        return Transport.delete(self, key)

    def _compare(self, key: str, etag: str | None) -> None:
        if etag is not None and self.head(key).etag != etag:
            raise Changed(f"{key} was changed by someone else meanwhile")

    def _described(self, info: ObjectInfo) -> ObjectInfo:
        etag = blake3(self.read(info.key)).hexdigest()
        return ObjectInfo(info.key, info.size, etag, self.world_clock.written.get(info.key, EPOCH))


class World:
    """One store and its clock; `process` is how another program sees it."""

    def __init__(self, store: Store, transport: type[TimedTransport] = WorldTransport) -> None:
        self.clock = Clock()
        self._store = store
        self._transport = transport
        self.store = self.process()

    def process(
        self, dies_at: int | None = None, before: Callable[[str, str], None] | None = None, fate: Fate | None = None
    ) -> Store:
        transport = self._transport.over(self._store.transport, fate or Fate(dies_at=dies_at, before=before))
        transport.world_clock = self.clock
        return Store(transport, self._store.config)

    def put(self, path: str, data: bytes) -> None:
        self.store.put(io.BytesIO(data), path)

    def packs(self) -> set[bytes]:
        return {bytes.fromhex(key.rsplit("/", 1)[-1]) for key in self.keys("packs/")}

    def packs_of(self, path: str) -> set[bytes]:
        return set(self.store.manifest(path).table.packs)

    def keys(self, prefix: str) -> list[str]:
        return [info.key for info in self.store.transport.list(prefix)]

    def snapshot(self) -> dict[str, bytes]:
        """Every object with its bytes, to go back to."""
        return {key: bytes(self.store.transport.read(key)) for key in self.keys("")}

    def restore(self, snapshot: dict[str, bytes], clock: Clock) -> None:
        for key in set(self.keys("")) - snapshot.keys():
            self.store.transport.delete(key)
        for key, data in snapshot.items():
            if not self.holds(key, data):
                self.store.transport.write(key, data)
        self.clock.now, self.clock.written = clock.now, dict(clock.written)

    def holds(self, key: str, data: bytes) -> bool:
        try:
            return self.store.transport.read(key) == data
        except ObjectMissing:
            return False

    def change(self, key: str, change: Callable[[bytearray], None]) -> None:
        """Alter an object behind everybody's back; nothing about it but its bytes looks different."""
        written = self.clock.written.get(key, EPOCH)
        data = bytearray(self.store.transport.read(key))
        change(data)
        self.store.transport.write(key, bytes(data))
        self.clock.written[key] = written


def content(seed: int, size: int = 60_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def reads_back(world: World, files: dict[str, bytes]) -> None:
    """Every file is there with every byte, and nothing else is."""
    found = {entry.path: world.store.open(entry.path).read() for entry in world.store.ls("", recursive=True)}
    assert found == files
