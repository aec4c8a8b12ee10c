"""How large objects are sent: in parts or whole, and how many at once.

Parts side by side fill a link that gives each connection little; on a quick one they only cost more. Where a link has
so little in all that requests end before they are through, each object has it to itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

# Bytes a second of one object beside others: what makes a trial of sending in one piece worthwhile, and what it must
# then reach. Parts that share a link of 10 MB/s a connection stay below the first.
WORTH_A_TRIAL = 50e6
QUICK = 30e6

# Seconds: a sending that failed no sooner than this had too little of the link, and one by itself that took no longer
# than that shows that others have room beside it again.
CROWDED = 30.0
ROOMY = 10.0


class Pace:
    """What large objects have shown of a link, which is taken for slow at first, and for ever once a trial failed."""

    def __init__(self) -> None:
        self.wants_parts = True
        self._tried = False
        self._crowded = False
        self._turn = threading.Lock()

    @contextmanager
    def measured(self, size: int, *, in_parts: bool) -> Iterator[None]:
        """Wait for a turn where the link is crowded, and take the time of sending a large object."""
        alone = self._crowded
        with self._turn if alone else nullcontext():
            began, arrived = time.monotonic(), False
            try:
                yield
                arrived = True
            finally:
                self._learn(size, max(time.monotonic() - began, 1e-6), arrived, in_parts, alone)

    def _learn(self, size: int, seconds: float, arrived: bool, in_parts: bool, alone: bool) -> None:
        rate = size / seconds if arrived else 0.0  # one that fails is as slow as can be
        if not in_parts and rate < QUICK:
            self.wants_parts = True
        elif in_parts and rate >= WORTH_A_TRIAL and not self._tried:
            self.wants_parts, self._tried = False, True
        if not arrived and seconds >= CROWDED:
            self._crowded = True
        elif arrived and alone and seconds < ROOMY:
            self._crowded = False
