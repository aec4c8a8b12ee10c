"""How far an operation on files has come: read by progress bars, returned as the operation's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from shardflow.transport import Totals


@dataclass(slots=True)
class Progress:
    """Counters of one put or get; `totals` counts what went over the wire."""

    files_total: int = 0
    files_done: int = 0
    files_unchanged: int = 0  # were there already, as they should be
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_reused: int = 0  # of bytes_done: found in the store (put) or at the target (get)
    bytes_on_bases: int = 0  # of bytes_done: stored by how they differ from something the store has
    packs_sent: int = 0
    totals: Totals = field(default_factory=Totals)
    looked_at: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by the path of a file put: earlier ones
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, done: int, *, reused: int = 0, on_bases: int = 0) -> None:
        with self._lock:
            self.bytes_done += done
            self.bytes_reused += reused
            self.bytes_on_bases += on_bases

    def restart(self) -> None:
        """The operation begins anew; what went over the wire stays counted."""
        with self._lock:
            self.files_done = self.files_unchanged = 0
            self.bytes_done = self.bytes_reused = self.bytes_on_bases = 0
            self.looked_at.clear()

    def as_dict(self) -> dict[str, int]:
        """The result of an operation, for `--json`."""
        own = {
            "files": self.files_done,
            "files_unchanged": self.files_unchanged,
            "bytes": self.bytes_done,
            "bytes_reused": self.bytes_reused,
            "bytes_on_bases": self.bytes_on_bases,
            "packs_sent": self.packs_sent,
        }
        return own | self.totals.as_dict()
