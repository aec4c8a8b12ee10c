"""What crossed the proxy, for tests that say how much may be sent and how often."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from faults.rules import Rule


@dataclass(slots=True)
class Exchange:
    """One request and what became of it; filled in while it goes on."""

    method: str
    target: str
    """Path and query, decoded."""
    sent: int = 0
    """Bytes of the request's body that went on to the server."""
    status: int | None = None
    """What the server (or the proxy in its place) answered, also where the client never saw it."""
    received: int = 0
    """Bytes of the response's body that went on to the client."""
    harm: Rule | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(slots=True)
class Traffic:
    """Counts since the proxy started, or since `proxy.forget_traffic()`."""

    connections: int = 0
    most_at_once: int = 0
    """The largest number of connections that were open together."""
    bytes_up: int = 0
    """Everything that went to the server, heads included."""
    bytes_down: int = 0
    exchanges: list[Exchange] = field(default_factory=list)

    def began(self, method: str, target: str) -> Exchange:
        exchange = Exchange(method, unquote(target))
        self.exchanges.append(exchange)
        return exchange

    def requests(self, method: str = "", path: str = "") -> list[Exchange]:
        """The requests with this method whose path or query holds this regular expression."""
        return [e for e in list(self.exchanges) if method in {"", e.method} and re.search(path, e.target)]

    def sent(self, method: str = "", path: str = "") -> int:
        """Bytes of request bodies."""
        return sum(exchange.sent for exchange in self.requests(method, path))

    def received(self, method: str = "", path: str = "") -> int:
        """Bytes of response bodies."""
        return sum(exchange.received for exchange in self.requests(method, path))

    def harmed(self) -> Counter[Rule]:
        """How many requests each rule has harmed."""
        return Counter(exchange.harm for exchange in list(self.exchanges) if exchange.harm is not None)

    def by_path(self) -> Counter[tuple[str, str]]:
        """How often each (method, path) was asked for."""
        return Counter((exchange.method, exchange.path) for exchange in list(self.exchanges))
