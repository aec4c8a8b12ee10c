"""What can go wrong between client and server, and which requests it happens to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Picks requests; the subclass says what happens to them. The first rule that picks a request has it."""

    method: str = ""
    """GET, PUT, ...; empty picks every method."""
    path: str = ""
    """A regular expression, searched in the decoded path and query."""
    spare: int = 0
    """How many picked requests pass unharmed first."""
    times: int | None = None
    """How many requests are harmed after that; None is all of them."""

    def picks(self, method: str, target: str) -> bool:
        return self.method in {"", method} and re.search(self.path, unquote(target)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Rule):
    """The proxy answers in the server's place, which never sees the request."""

    status: int = 503
    code: str = ""
    """The error's name in the body; empty is what S3 calls it."""
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRequest(Rule):
    """Both sides get a reset once `at` bytes of the request's body have reached the server."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutResponse(Rule):
    """The client gets a reset after `at` bytes of the response's body."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Rule):
    """The response's body ends after `at` bytes and the connection is closed in good order."""

    at: int
    relabel: bool = False
    """Makes Content-Length agree with the short body: nothing in HTTP shows the loss, and the connection goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipBit(Rule):
    """One bit of the response's body is inverted: the lowest of byte `at`, which wraps around in a shorter body."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseResponse(Rule):
    """The server does what is asked and answers; the client sees a reset instead of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Rule):
    """The request waits in the proxy before it goes on to the server."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The state of the network. The default is a good one."""

    latency: float = 0.0
    """Seconds that everything takes in each direction; a new connection waits for one round trip more."""
    bandwidth: float | None = None
    """Bytes a second, for each direction of each connection."""
    together: float | None = None
    """Bytes a second, for each direction of all connections together."""
    refuse: bool = False
    """Nobody listens: connecting is refused, and open connections are reset."""
    reset_after: int | None = None
    """Every connection is reset once this many bytes, counted both ways together, have crossed it."""
    rules: tuple[Rule, ...] = ()


class Plan:
    """Faults in force, with the memory of how often each rule has been used."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._picked = [0] * len(faults.rules)

    def claim(self, method: str, target: str) -> Rule | None:
        """The rule that harms this request, if any."""
        for number, rule in enumerate(self.faults.rules):
            if not rule.picks(method, target):
                continue
            self._picked[number] += 1
            harmed = self._picked[number] - rule.spare
            if harmed > 0 and (rule.times is None or harmed <= rule.times):
                return rule
        return None
