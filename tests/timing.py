"""How long something takes, for tests of what must not take long: a machine that is busy must not fail them."""

from __future__ import annotations

import time
from collections.abc import Callable


def took(act: Callable[[], object]) -> float:
    """Seconds; the least of several is what a busy machine adds nothing to."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def worked(act: Callable[[], object]) -> float:
    """The least processor time of three tries, in this thread: others may compile something meanwhile."""
    return min(_worked(act) for _ in range(3))


def _worked(act: Callable[[], object]) -> float:
    began = time.thread_time()
    act()
    return time.thread_time() - began
