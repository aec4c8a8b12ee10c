"""How many large objects, or large parts of some, travel at once.

A link that gives each connection little is filled by more of them; a server nearby answers none the sooner for that.
Where a link has so little in all that requests end before they are through, each has it to itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds: what failed no sooner than this had too little of the link, and what took no longer than that shows that
# there is room for one more beside it again.
CROWDED = 30.0
ROOMY = 10.0

SLOW_CONNECTION = 20e6  # bytes a second


class Lanes:
    """A few at first, many once one has shown that connections are slow, one where they crowd each other out."""

    def __init__(self, few: int, many: int) -> None:
        self._few, self._many = few, many
        self._most = few
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def lane(self, size: int) -> Iterator[None]:
        """Wait for a lane, and take the time of what travels on it."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._most)
            self._taken += 1
        began, arrived = time.monotonic(), False
        try:
            yield
            arrived = True
        finally:
            seconds = max(time.monotonic() - began, 1e-6)
            with self._changed:
                self._taken -= 1
                self._most = self._fitting(size, seconds, arrived)
                self._changed.notify_all()

    def _fitting(self, size: int, seconds: float, arrived: bool) -> int:
        if not arrived:
            return 1 if seconds >= CROWDED else self._most
        if self._most < self._few:
            return self._most + (seconds < ROOMY)
        return self._many if size / seconds < SLOW_CONNECTION else self._most
