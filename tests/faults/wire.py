"""HTTP/1.1 as far as a proxy must understand it: where a message's head and body end. Bytes stay as they came."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the fields of a message."""

    raw: bytes
    words: tuple[str, str, str]
    """The first line's three words."""
    fields: Mapping[str, str]
    """By lower-case name."""

    @property
    def method(self) -> str:
        return self.words[0]

    @property
    def target(self) -> str:
        return self.words[1]

    @property
    def status(self) -> int:
        return int(self.words[1])

    @property
    def length(self) -> int | None:
        """What Content-Length says."""
        text = self.fields.get("content-length")
        return None if text is None else int(text)

    @property
    def chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def is_last(self) -> bool:
        """Whether its sender closes the connection after this exchange."""
        connection = self.fields.get("connection", "").lower()
        return "close" in connection or ("HTTP/1.0" in self.words and "keep-alive" not in connection)

    def with_length(self, length: int) -> bytes:
        """The same head, with another Content-Length."""
        return re.sub(rb"(?i)(\r\ncontent-length:)[^\r]*", rb"\1 %d" % length, self.raw)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a body; the lines that frame a chunked one are no payload."""

    data: bytes
    payload: bool = True


async def read_head(stream: asyncio.StreamReader) -> Head | None:
    """The next message's head; None where the sender has closed between two messages."""
    try:
        raw = await stream.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise ConnectionResetError("closed within the head of a message") from None
        return None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    word, middle, last = (*first.split(" ", 2), "")[:3]
    pairs = (line.partition(":") for line in lines)
    return Head(raw, (word, middle, last), {name.lower(): value.strip() for name, _, value in pairs})


def request_body(stream: asyncio.StreamReader, head: Head) -> AsyncIterator[Piece]:
    """The body that follows a request's head."""
    return _chunks(stream) if head.chunked else _counted(stream, head.length or 0)


def response_body(stream: asyncio.StreamReader, head: Head, method: str) -> AsyncIterator[Piece]:
    """The body that follows a response's head; without a stated length it lasts until the server closes."""
    if method == "HEAD" or head.status in {204, 304}:
        return _counted(stream, 0)
    if head.chunked:
        return _chunks(stream)
    return _until_closed(stream) if head.length is None else _counted(stream, head.length)


async def _counted(stream: asyncio.StreamReader, length: int) -> AsyncIterator[Piece]:
    while length > 0:
        data = await stream.read(min(length, PIECE))
        if not data:
            raise ConnectionResetError("closed within the body of a message")
        length -= len(data)
        yield Piece(data)


async def _chunks(stream: asyncio.StreamReader) -> AsyncIterator[Piece]:
    while True:
        line = await stream.readuntil(b"\r\n")
        yield Piece(line, payload=False)
        size = int(line.split(b";")[0], 16)
        async for piece in _counted(stream, size):
            yield piece
        yield Piece(await stream.readuntil(b"\r\n"), payload=False)
        if size == 0:
            return


async def _until_closed(stream: asyncio.StreamReader) -> AsyncIterator[Piece]:
    while data := await stream.read(PIECE):
        yield Piece(data)
