"""A budget of bytes for all work in flight, so that memory does not grow with the size of the model."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING

from shardflow.transport.cancel import LOOK_EVERY_SECONDS
from shardflow.transport.forks import renewed_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardflow.transport.cancel import Cancellation


class ByteBudget:
    """At most `total` bytes are out at once; who asks first is served first.

    A request for more than the total is granted when nothing else is out: it can then still be done, alone.
    """

    def __init__(self, total: int) -> None:
        if total <= 0:
            raise ValueError(f"a budget of {total} bytes lets nothing through")
        self.total = total
        self._peak = 0
        self._start()
        renewed_in_child(self, ByteBudget._start)

    def _start(self) -> None:
        """With nothing out: in the child of a fork, what was out is the business of the parent's threads."""
        self._lock = Lock()
        self._out = 0
        self._queue: deque[_Request] = deque()

    @property
    def out(self) -> int:
        """Bytes granted and not yet released."""
        return self._out

    @property
    def peak(self) -> int:
        """The most bytes that were ever out at once."""
        return self._peak

    def acquire(self, size: int, cancel: Cancellation | None = None) -> None:
        """Wait until `size` bytes are free and take them; raises Cancelled, with nothing taken, if asked to stop."""
        if size < 0:
            raise ValueError(f"cannot take {size} bytes")
        request = _Request(size)
        with self._lock:
            self._queue.append(request)
            self._grant()
        try:
            while not request.granted.wait(LOOK_EVERY_SECONDS if cancel else None):
                if cancel:
                    cancel.check()
        except BaseException:
            self._withdraw(request)
            raise

    def try_acquire(self, size: int) -> bool:
        """Take bytes only if they are free now and nobody waits for them."""
        with self._lock:
            if self._queue or self._out + size > self.total:
                return False
            self._out += size
            self._peak = max(self._peak, self._out)
            return True

    def release(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            if not 0 <= size <= self._out:
                raise ValueError(f"cannot release {size} bytes: {self._out} are out")
            self._out -= size
            self._grant()

    @contextmanager
    def hold(self, size: int, cancel: Cancellation | None = None) -> Iterator[None]:
        """Take bytes for the length of a `with` block."""
        self.acquire(size, cancel)
        try:
            yield
        finally:
            self.release(size)

    def _grant(self) -> None:
        """Serve the head of the queue as far as it fits; never past it, or large requests would starve."""
        while self._queue and (self._out == 0 or self._out + self._queue[0].size <= self.total):
            request = self._queue.popleft()
            self._out += request.size
            self._peak = max(self._peak, self._out)
            request.granted.set()

    def _withdraw(self, request: _Request) -> None:
        with self._lock:
            if request.granted.is_set():
                self._out -= request.size
            else:
                self._queue.remove(request)
            self._grant()


class _Request:
    __slots__ = ("granted", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.granted = Event()
