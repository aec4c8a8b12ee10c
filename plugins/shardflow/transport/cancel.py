"""A request to stop, shared by all threads of one operation and looked at wherever they could wait."""

from __future__ import annotations

import time

from shardflow.errors import Cancelled

# A plain flag that waiting threads look at this often. An Event would wake them at once, but its lock cannot be taken
# in a signal handler, and Ctrl-C is the first customer.
LOOK_EVERY_SECONDS = 0.05


class Cancellation:
    """Set once, never unset. One made with a `parent` is cancelled with it, but not the other way round."""

    __slots__ = ("_cancelled", "_parent", "_reason")

    def __init__(self, parent: Cancellation | None = None) -> None:
        self._parent = parent
        self._cancelled = False
        self._reason = ""

    def cancel(self, reason: str = "") -> None:
        """Ask everything that shares this token to stop; safe in a signal handler. The first reason stays."""
        if not self._cancelled:
            self._reason = reason
            self._cancelled = True

    @property
    def cancelled(self) -> bool:
        return self._cancelled or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Raise Cancelled if a stop was asked for."""
        if self._parent is not None:
            self._parent.check()
        if self._cancelled:
            raise Cancelled(f"stopped: {self._reason}" if self._reason else "stopped")

    def sleep(self, seconds: float) -> None:
        """Sleep, but raise Cancelled soon after a stop is asked for."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY_SECONDS))
            self.check()
