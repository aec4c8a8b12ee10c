"""One request on its way to the server and its answer on the way back, with the harm a rule does to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from faults import wire
from faults.rules import Answer, CutRequest, CutResponse, FlipBit, Hold, LoseResponse, Truncate

if TYPE_CHECKING:
    from faults.connection import Connection
    from faults.rules import Rule
    from faults.traffic import Exchange
    from faults.wire import Head

REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}
S3_CODES = {429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}


class Cut(ConnectionError):
    """The network breaks here, by order of a rule."""


async def carry(connection: Connection, head: Head, rule: Rule | None, record: Exchange) -> bool:
    """Takes one request through; False when the connection can not carry another."""
    record.harm = rule
    if isinstance(rule, Answer):
        return await _answer_here(connection, head, rule, record)
    if isinstance(rule, Hold):
        await asyncio.sleep(rule.seconds)
    async with connection.server() as (from_server, to_server):
        upload = asyncio.create_task(_upload(connection, head, rule, record, to_server))
        answer = asyncio.create_task(_download(connection, head, rule, record, from_server))
        try:
            await asyncio.wait({upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if upload.done():
                upload.result()
                return await answer
            await answer  # the server answered before it had the whole request; what is left of that is lost
            return False
        finally:
            await _end(upload, answer)


async def _end(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _answer_here(connection: Connection, head: Head, rule: Answer, record: Exchange) -> bool:
    waits_for_leave = "expect" in head.fields  # such a client sends no body once it has its answer
    if not waits_for_leave:
        async for _ in wire.request_body(connection.from_client, head):
            pass
    code = rule.code or S3_CODES.get(rule.status, "Error")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the fault proxy</Message></Error>".encode()
    lines = [
        f"HTTP/1.1 {rule.status} {REASONS.get(rule.status, 'Error')}",
        "Content-Type: application/xml",
        f"Content-Length: {len(body)}",
    ]
    if rule.retry_after is not None:
        lines.append(f"Retry-After: {rule.retry_after}")
    if waits_for_leave:
        lines.append("Connection: close")
    record.status = rule.status
    await connection.send_down("\r\n".join([*lines, "", ""]).encode() + (b"" if head.method == "HEAD" else body))
    return not waits_for_leave


async def _upload(
    connection: Connection, head: Head, rule: Rule | None, record: Exchange, to_server: asyncio.StreamWriter
) -> None:
    await connection.send_up(head.raw, to_server)
    limit = rule.at if isinstance(rule, CutRequest) else None
    async for piece in wire.request_body(connection.from_client, head):
        data = piece.data
        if piece.payload:
            data = data if limit is None else data[: limit - record.sent]
            record.sent += len(data)
        await connection.send_up(data, to_server)
        if limit is not None and record.sent >= limit:
            break
    await connection.up.settle()
    if limit is not None:
        raise Cut


async def _download(
    connection: Connection, request: Head, rule: Rule | None, record: Exchange, from_server: asyncio.StreamReader
) -> bool:
    head = await _final_head(connection, from_server)
    record.status = head.status
    body = wire.response_body(from_server, head, request.method)
    if isinstance(rule, LoseResponse):
        async for _ in body:
            pass
        raise Cut
    limit = rule.at if isinstance(rule, CutResponse | Truncate) else None
    relabelled = isinstance(rule, Truncate) and rule.relabel and head.length is not None
    await connection.send_down(head.with_length(min(limit or 0, head.length or 0)) if relabelled else head.raw)
    async for piece in body:
        data = piece.data
        if piece.payload:
            if isinstance(rule, FlipBit):
                data = _flipped(data, record.received, _place(rule.at, head))
            data = data if limit is None else data[: limit - record.received]
            record.received += len(data)
        await connection.send_down(data)
        if limit is not None and record.received >= limit:
            break
    await connection.down.settle()
    if isinstance(rule, CutResponse):
        raise Cut
    ends_with_close = head.length is None and not head.chunked and request.method != "HEAD"
    broken_off = limit is not None and not relabelled
    return not (broken_off or ends_with_close or head.is_last or request.is_last)


async def _final_head(connection: Connection, from_server: asyncio.StreamReader) -> Head:
    """The answer's head; interim ones (100 Continue) go to the client as they come."""
    while True:
        head = await wire.read_head(from_server)
        if head is None:
            raise ConnectionResetError("the server closed without an answer")
        if head.status >= 200:
            return head
        await connection.send_down(head.raw)


def _place(at: int, head: Head) -> int:
    return at % head.length if head.length else at


def _flipped(data: bytes, start: int, place: int) -> bytes:
    """The piece that begins at `start` of the body, with the bit at `place` inverted if it lies in here."""
    index = place - start
    if not 0 <= index < len(data):
        return data
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
