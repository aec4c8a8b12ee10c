"""A store whose process dies: the n-th change to it, and everything after that, does not happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Self

from shardflow.store.store import Store
from shardflow.transport import NewObject, ObjectInfo, Transport, TransportError


class Crash(BaseException):
    """The end of the process, as far as one process can show it; no handler of ours may catch it."""


@dataclass
class Fate:
    """Counts changes, and decides which one is the first that does not happen."""

    dies_at: int | None = None
    changes: int = 0
    written: list[str] = field(default_factory=list)
    before: Callable[[str, str], None] | None = None  # called with verb and key before each change
    _lock: Lock = field(default_factory=Lock)

    def change(self, verb: str, key: str) -> None:
        if self.before is not None:
            self.before(verb, key)
        with self._lock:
            self.changes += 1
            if self.dies_at is not None and self.changes >= self.dies_at:
                raise Crash(f"{verb} {key} is change {self.changes}")
            self.written.append(key)


class MortalTransport(Transport):
    """A transport whose writes and deletes are subject to a fate."""

    fate: Fate

    @classmethod
    def over(cls, transport: Transport, fate: Fate) -> Self:
        mortal = cls.__new__(cls)
        mortal.__dict__.update(transport.__dict__)
        mortal.fate = fate
        return mortal

    def write(self, key: str, data: Any, **options: Any) -> ObjectInfo:
        self.fate.change("write", key)
        return super().write(key, data, **options)

    def write_all(self, objects: Sequence[NewObject]) -> list[TransportError | None]:
        """One by one, so that each is a change of its own: a power failure may come between any two."""
        return [failure for new in objects for failure in super(MortalTransport, self).write_all([new])]

    def delete(self, key: str, **options: Any) -> bool:
        self.fate.change("delete", key)
        return super().delete(key, **options)


def mortal(store: Store, fate: Fate) -> Store:
    """The same store, seen by a process with this fate."""
    return Store(MortalTransport.over(store.transport, fate), store.config)
