"""A client's connection to the proxy: its two lines, its byte count, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faults import wire
from faults.exchange import Cut, carry
from faults.line import Capacity, Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faults.rules import Plan
    from faults.traffic import Traffic

READ_AHEAD = 1 << 20  # of each stream; also the longest head


@dataclass(slots=True)
class Network:
    """What all connections share; the proxy puts another plan or fresh counts in while they are open."""

    server: tuple[str, int]
    plan: Plan
    traffic: Traffic
    up: Capacity = field(default_factory=Capacity)
    down: Capacity = field(default_factory=Capacity)


class Connection:
    """Serves one client until either side has enough, or a fault says so."""

    def __init__(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter, network: Network) -> None:
        self.from_client = from_client
        self._to_client = to_client
        self._network = network
        self._crossed = 0
        self.up = Line(lambda: network.plan.faults, network.up)
        self.down = Line(lambda: network.plan.faults, network.down)

    async def serve(self) -> None:
        """Carries requests one after the other."""
        try:
            # On a real line the handshake takes a round trip.
            await asyncio.sleep(2 * self._network.plan.faults.latency)
            while head := await wire.read_head(self.from_client):
                rule = self._network.plan.claim(head.method, head.target)
                record = self._network.traffic.began(head.method, head.target)
                if not await carry(self, head, rule, record):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            reset(self._to_client)
        finally:
            self.up.close()
            self.down.close()
            self._to_client.close()
            with suppress(ConnectionError):
                await self._to_client.wait_closed()

    @asynccontextmanager
    async def server(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the server for one request, so that none is ever stale; reset if the request fails."""
        reader, writer = await asyncio.open_connection(*self._network.server, limit=READ_AHEAD)
        try:
            yield reader, writer
        except BaseException:
            reset(writer)
            raise
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def send_up(self, data: bytes, to_server: asyncio.StreamWriter) -> None:
        allowed = self._until_reset(data)
        self._network.traffic.bytes_up += len(allowed)
        await self.up.send(allowed, to_server)
        await self._reset_if_due(self.up, len(allowed) < len(data))

    async def send_down(self, data: bytes) -> None:
        allowed = self._until_reset(data)
        self._network.traffic.bytes_down += len(allowed)
        await self.down.send(allowed, self._to_client)
        await self._reset_if_due(self.down, len(allowed) < len(data))

    def _until_reset(self, data: bytes) -> bytes:
        limit = self._network.plan.faults.reset_after
        allowed = data if limit is None else data[: max(0, limit - self._crossed)]
        self._crossed += len(allowed)
        return allowed

    async def _reset_if_due(self, line: Line, due: bool) -> None:
        if due:
            await line.settle()
            raise Cut


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection the hard way: its peer reads 'connection reset', not a clean end."""
    if not writer.is_closing():
        reset_when_closed(writer.get_extra_info("socket"))
        writer.transport.abort()


def reset_when_closed(sock: socket.socket) -> None:
    """Makes the socket's end a reset: with no time to linger, closing throws away what is unsent and says so."""
    if sock.fileno() != -1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
