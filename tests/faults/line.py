"""One direction of one connection: what is sent comes out later, and no faster than the faults in force allow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.rules import Faults

IN_TRANSIT = 128  # pieces under way at once; with pieces of 64 KiB that is a window of 8 MiB
BURST = 0.005  # seconds: sleeping is no more exact than this, so a late piece may catch up by as much


class Capacity:
    """So many bytes a second, for one line or for several."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def taken(self, now: float, seconds: float) -> float:
        """When what takes so long is through, after all that came before it."""
        self._free_at = max(now - BURST, self._free_at) + seconds
        return self._free_at


class Line:
    """Carries pieces in order. Where nothing slows it down, it writes straight through."""

    def __init__(self, faults: Callable[[], Faults], shared: Capacity) -> None:
        self._faults = faults
        self._own, self._shared = Capacity(), shared
        self._pieces: asyncio.Queue[tuple[float, bytes, asyncio.StreamWriter]] = asyncio.Queue(IN_TRANSIT)
        self._under_way = 0
        self._broken: OSError | None = None
        self._arrivals = asyncio.create_task(self._deliver())

    async def send(self, data: bytes, out: asyncio.StreamWriter) -> None:
        """Returns when the line has taken the data, which may be before it arrives."""
        faults = self._faults()
        slowest = min((rate for rate in (faults.bandwidth, faults.together) if rate), default=0.0)
        if not (faults.latency or slowest or self._under_way):
            out.write(data)
            await out.drain()
            return
        step = max(1024, int(slowest / 50)) if slowest else len(data)
        for start in range(0, len(data), step):
            await self._enter(data[start : start + step], out, faults)

    async def settle(self) -> None:
        """Waits until everything has arrived."""
        await self._pieces.join()
        if self._broken:
            raise self._broken

    def close(self) -> None:
        self._arrivals.cancel()

    async def _enter(self, piece: bytes, out: asyncio.StreamWriter, faults: Faults) -> None:
        if self._broken:
            raise self._broken
        now = asyncio.get_running_loop().time()
        through = now
        for capacity, rate in ((self._own, faults.bandwidth), (self._shared, faults.together)):
            if rate:
                through = max(through, capacity.taken(now, len(piece) / rate))
        self._under_way += 1
        await self._pieces.put((through + faults.latency, piece, out))
        await asyncio.sleep(through - now)

    async def _deliver(self) -> None:
        while True:
            due, piece, out = await self._pieces.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            try:
                out.write(piece)
                await out.drain()
            except OSError as gone:
                self._broken = gone  # the sender learns it with its next piece; what is under way is lost
            self._under_way -= 1
            self._pieces.task_done()
