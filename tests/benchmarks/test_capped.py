"""The benchmarks' link: it carries all bytes both ways, and no more of them a second than it was told."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

MIB = 1 << 20


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets, once it has all of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_all, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _answer_all(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client:
        client.sendall(_all_from(client))


def _all_from(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(MIB):
        parts.append(part)
    return b"".join(parts)


def _echoed(address: str, data: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return _all_from(connection)


def test_all_bytes_arrive_both_ways(echo: str) -> None:
    from harness.capped import capped

    data = os.urandom(3 * MIB + 7)
    with capped(echo, 1e9) as address:
        assert _echoed(address, data) == data
        assert _echoed(address, b"x") == b"x"


def test_connections_share_what_the_link_carries(echo: str) -> None:
    from harness.capped import capped

    rate, connections, each = 20e6, 4, 2 * MIB
    with capped(echo, rate) as address:
        threads = [threading.Thread(target=_echoed, args=(address, bytes(each))) for _ in range(connections)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    assert took > 0.9 * connections * each / rate


def test_where_no_server_is_the_connection_ends() -> None:
    from harness.capped import capped

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with capped(f"127.0.0.1:{port}", 1e9) as address, suppress(OSError):
        assert _echoed(address, b"x") == b""
