"""What an operation has moved so far, and how fast: counters for reports, a meter for progress bars."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, fields
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Totals:
    """Counters of one operation; any number of threads may add to them."""

    bytes_sent: int = 0
    bytes_received: int = 0
    objects_written: int = 0
    objects_deleted: int = 0
    reads: int = 0
    retries: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(
        self,
        *,
        bytes_sent: int = 0,
        bytes_received: int = 0,
        objects_written: int = 0,
        objects_deleted: int = 0,
        reads: int = 0,
        retries: int = 0,
    ) -> None:
        """Add to several counters at once."""
        with self._lock:
            self.bytes_sent += bytes_sent
            self.bytes_received += bytes_received
            self.objects_written += objects_written
            self.objects_deleted += objects_deleted
            self.reads += reads
            self.retries += retries

    def as_dict(self) -> dict[str, int]:
        """All counters as they stand together, for `--json`."""
        with self._lock:
            return {counter.name: getattr(self, counter.name) for counter in fields(self) if counter.name[0] != "_"}


class Meter:
    """Rate and time left, over a sliding window: the mean since the start would hide that a link has stalled."""

    def __init__(self, window_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window_seconds
        self._clock = clock
        self._lock = Lock()
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def update(self, done: int) -> None:
        """Note that `done` bytes in all have been moved by now."""
        with self._lock:
            now = self._clock()
            self._marks.append((now, done))
            # One mark older than the window stays, as the window's left edge.
            while len(self._marks) > 2 and self._marks[1][0] <= now - self._window:
                self._marks.popleft()

    @property
    def done(self) -> int:
        return self._marks[-1][1]

    @property
    def rate(self) -> float:
        """Bytes a second within the window; 0 before anything moved."""
        with self._lock:
            (start, before), (_, now_done) = self._marks[0], self._marks[-1]
            elapsed = self._clock() - start
            return (now_done - before) / elapsed if elapsed > 0 else 0.0

    def eta(self, total: int) -> float | None:
        """Seconds until `total` bytes are done at the present rate, or None while that cannot be said."""
        rate = self.rate
        return max(0, total - self.done) / rate if rate > 0 else None
