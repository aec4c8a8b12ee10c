"""The fault proxy: stands between a client and an HTTP server, in a thread, and harms what it is told to harm.

    with FaultProxy("127.0.0.1:9000") as proxy:
        client = connect_to(proxy.address)
        proxy.faults = Faults(latency=0.025, rules=(Answer(status=503, method="PUT", times=3),))
        ...
        assert proxy.traffic.sent(method="PUT", path="packs/") < 2 * pack_size

Heads and bodies go through as they came, Host included, so request signatures stay valid.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Self

from faults.connection import READ_AHEAD, Connection, Network, reset_when_closed
from faults.rules import Faults, Plan
from faults.traffic import Traffic
from services.loop_thread import LoopThread

if TYPE_CHECKING:
    from types import TracebackType


class FaultProxy:
    """Listens on a port of its own for as long as its context lasts."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._network = Network((host, int(port)), Plan(Faults()), Traffic())
        self._thread = LoopThread("fault-proxy")
        self._open: dict[asyncio.Task[None], socket.socket] = {}
        self._listener: socket.socket | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Where clients connect, as host:port."""
        return f"127.0.0.1:{self._port}"

    @property
    def traffic(self) -> Traffic:
        """What has crossed the proxy so far."""
        return self._network.traffic

    @property
    def faults(self) -> Faults:
        """What goes wrong from now on; assigning starts the counts of all rules anew."""
        return self._network.plan.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._thread.call(self._adopt(faults))

    def drop_connections(self) -> None:
        """Resets every connection that is open now, as a restarting server does."""
        self._thread.call(self._drop())

    def forget_traffic(self) -> None:
        """Starts all counts at zero."""
        self._network.traffic = Traffic()

    def __enter__(self) -> Self:
        self._thread.__enter__()
        self._thread.call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._thread.call(self._close())
        finally:
            self._thread.__exit__(kind, error, trace)

    async def _adopt(self, faults: Faults) -> None:
        self._network.plan = Plan(faults)
        if faults.refuse:
            await self._close()
        elif self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1000)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        # Accepting and noting down in one step leaves no moment in which a client is connected and unknown.
        client, _ = listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so only for sockets it made
        serving = asyncio.create_task(self._serve(client))
        serving.add_done_callback(self._forget)
        self._open[serving] = client
        self.traffic.connections += 1
        self.traffic.most_at_once = max(self.traffic.most_at_once, len(self._open))

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=READ_AHEAD)
        await Connection(reader, writer, self._network).serve()

    def _forget(self, serving: asyncio.Task[None]) -> None:
        self._open.pop(serving).close()

    async def _close(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._drop()

    async def _drop(self) -> None:
        for serving, client in list(self._open.items()):
            reset_when_closed(client)
            serving.cancel()
        if self._open:
            await asyncio.wait(self._open)
