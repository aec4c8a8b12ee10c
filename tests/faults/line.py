"""One direction of one connection: what is sent comes out later, and no faster than the faults in force allow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.rules import Faults

IN_TRANSIT = 128  # pieces under way at once; with pieces of 64 KiB that is a window of 8 MiB
BURST = 0.005  # seconds: sleeping is no more exact than this, so a late piece may catch up by as much


class Line:
    """Carries pieces in order. Where nothing slows it down, it writes straight through."""

    def __init__(self, faults: Callable[[], Faults]) -> None:
        self._faults = faults
        self._free_at = 0.0
        self._pieces: asyncio.Queue[tuple[float, bytes, asyncio.StreamWriter]] = asyncio.Queue(IN_TRANSIT)
        self._under_way = 0
        self._broken: OSError | None = None
        self._arrivals = asyncio.create_task(self._deliver())

    async def send(self, data: bytes, out: asyncio.StreamWriter) -> None:
        """Returns when the line has taken the data, which may be before it arrives."""
        faults = self._faults()
        if not (faults.latency or faults.bandwidth or self._under_way):
            out.write(data)
            await out.drain()
            return
        step = max(1024, int(faults.bandwidth / 50)) if faults.bandwidth else len(data)
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
        takes = len(piece) / faults.bandwidth if faults.bandwidth else 0.0
        self._free_at = max(now - BURST, self._free_at) + takes
        self._under_way += 1
        await self._pieces.put((max(now, self._free_at) + faults.latency, piece, out))
        await asyncio.sleep(self._free_at - now)

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
