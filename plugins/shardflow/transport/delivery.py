"""Writes whose answer may be lost: tells "it failed" from "it was done, but nobody said so".

A conditional write is not idempotent. Sent again after its first answer was lost, it fails on its own success; so each
one carries a mark, and once an attempt was left in doubt, a refusal is believed only if what is there bears another.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from shardflow.transport.errors import AlreadyThere, Changed, ObjectMissing, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardflow.transport.info import ObjectInfo


class Delivery:
    """One write, over all its attempts."""

    def __init__(
        self,
        size: int,
        *,
        send: Callable[[str], ObjectInfo],
        look: Callable[[], tuple[ObjectInfo, str]],
        content_addressed: bool,
    ) -> None:
        """`send` writes with a mark; `look` tells what is there and the mark it bears."""
        self._size = size
        self._send = send
        self._look = look
        self._content_addressed = content_addressed
        self._mark = secrets.token_hex(8)
        self._in_doubt = False

    def attempt(self) -> ObjectInfo:
        """Write once, unless an earlier attempt turns out to have done it."""
        if self._in_doubt and self._content_addressed and (found := self._arrived()):
            return found
        try:
            return self._send(self._mark)
        except (AlreadyThere, Changed):
            if self._in_doubt and (found := self._arrived()):
                return found
            raise
        except TransportError as error:
            self._in_doubt |= error.transient
            raise

    def _arrived(self) -> ObjectInfo | None:
        """What is there, if it is what an earlier attempt wrote, or as good."""
        try:
            found, mark = self._look()
        except ObjectMissing:
            return None
        same = mark == self._mark or (self._content_addressed and found.size == self._size)
        return found if same else None
