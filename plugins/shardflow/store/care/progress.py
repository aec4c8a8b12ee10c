"""How far care of a store has come: set by the work, polled by a progress bar."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

Unit = Literal["objects", "bytes"]


@dataclass(slots=True)
class CareProgress:
    """What is being done now, and how much of it; `total` is 0 while nobody knows."""

    phase: str = ""
    done: int = 0
    total: int = 0
    unit: Unit = "objects"
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def begin(self, phase: str, total: int = 0, unit: Unit = "objects") -> None:
        with self._lock:
            self.phase, self.done, self.total, self.unit = phase, 0, total, unit

    def add(self, done: int = 1) -> None:
        with self._lock:
            self.done += done
