"""The store's own time: ages in a store are told by the clock that stamped them, never by this machine's."""

from __future__ import annotations

import time

from shardflow.store.commit import seconds
from shardflow.transport import AccessDenied, ReadOnlyTarget, Transport


def store_time(transport: Transport, *, writable: bool = True) -> float:
    """What the store's clock shows, in Unix seconds.

    Asking takes writing an object. Work that changes nothing (`writable=False`) falls back on this machine's clock
    where that is refused.
    """
    try:
        return transport.clock()
    except (AccessDenied, ReadOnlyTarget):
        if writable:
            raise
        return time.time()


class StoreClock:
    """The store's time, asked once and then kept by this machine's steady clock."""

    def __init__(self, transport: Transport, *, writable: bool = True) -> None:
        self._start = store_time(transport, writable=writable)
        self._ticks = seconds()

    def now(self) -> float:
        return self._start + seconds() - self._ticks
