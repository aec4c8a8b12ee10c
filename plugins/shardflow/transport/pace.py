"""How large objects are sent: in parts or whole.

Parts side by side fill a link that gives each connection little; on a quick one they only cost more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Bytes a second of one object beside others: what makes a trial of sending in one piece worthwhile, and what it must
# then reach. Parts that share a link of 10 MB/s a connection stay below the first.
WORTH_A_TRIAL = 50e6
QUICK = 30e6


class Pace:
    """What large objects have shown of a link, which is taken for slow at first, and for ever once a trial failed."""

    def __init__(self) -> None:
        self.wants_parts = True
        self._tried = False

    @contextmanager
    def measured(self, size: int, *, in_parts: bool) -> Iterator[None]:
        """Take the time of sending a large object."""
        began, arrived = time.monotonic(), False
        try:
            yield
            arrived = True
        finally:
            # One that fails is as slow as can be.
            self._learn(size / max(time.monotonic() - began, 1e-6) if arrived else 0.0, in_parts)

    def _learn(self, rate: float, in_parts: bool) -> None:
        if not in_parts and rate < QUICK:
            self.wants_parts = True
        elif in_parts and rate >= WORTH_A_TRIAL and not self._tried:
            self.wants_parts, self._tried = False, True
