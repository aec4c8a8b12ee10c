"""The fault proxy does each harm it offers, to the requests it is told to, and counts what crosses it."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from faults.proxy import FaultProxy
from faults.rules import Answer, CutRequest, CutResponse, Faults, FlipBit, Hold, LoseResponse, Truncate
from timing import took

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = bytes(range(256)) * 2000


class TinyHandler(BaseHTTPRequestHandler):
    """GET /N gives N bytes, GET /chunked/N the same in chunks; PUT keeps what it is sent."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    hosts: list[str]

    def do_GET(self) -> None:
        self.give(with_body=True)

    def do_HEAD(self) -> None:
        self.give(with_body=False)

    def give(self, *, with_body: bool) -> None:
        self.hosts.append(self.headers["Host"])
        body = BODY[: int(self.path.rpartition("/")[2])]
        self.send_response(200)
        if "/chunked/" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = len(body) // 2
            for chunk in (body[:half], body[half:]):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) == int(self.headers["Content-Length"]):
            self.kept[self.path] = body
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stays silent."""


class TinyServer(ThreadingHTTPServer):
    """The server behind the proxy; connections that break under it are part of the test."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Stays silent."""


@contextmanager
def tiny_server() -> Iterator[tuple[str, type[TinyHandler]]]:
    handler = type("Handler", (TinyHandler,), {"kept": {}, "hosts": []})
    with TinyServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def handler_and_proxy() -> Iterator[tuple[type[TinyHandler], FaultProxy]]:
    with tiny_server() as (address, handler), FaultProxy(address) as proxy:
        yield handler, proxy


@pytest.fixture
def proxy(handler_and_proxy: tuple[type[TinyHandler], FaultProxy]) -> FaultProxy:
    return handler_and_proxy[1]


@pytest.fixture
def handler(handler_and_proxy: tuple[type[TinyHandler], FaultProxy]) -> type[TinyHandler]:
    return handler_and_proxy[0]


def client(proxy: FaultProxy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(proxy.address, timeout=10)


def dialled(proxy: FaultProxy) -> socket.socket:
    host, _, port = proxy.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def ask(proxy: FaultProxy, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request over a connection of its own."""
    with closing(client(proxy)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()


def test_without_faults_everything_passes_unchanged(proxy: FaultProxy, handler: type[TinyHandler]) -> None:
    with closing(client(proxy)) as connection:
        for path in ("/100000", "/chunked/99999", "/0"):
            connection.request("GET", path)
            assert connection.getresponse().read() == BODY[: int(path.rpartition("/")[2])]
        connection.request("HEAD", "/5000")
        response = connection.getresponse()
        assert (response.read(), response.headers["Content-Length"]) == (b"", "5000")
        connection.request("PUT", "/kept", BODY)
        assert connection.getresponse().read() == b""
    assert handler.kept == {"/kept": BODY}
    assert proxy.traffic.connections == 1


def test_the_host_header_stays_as_the_client_sent_it(proxy: FaultProxy, handler: type[TinyHandler]) -> None:
    ask(proxy, "GET", "/1")
    assert handler.hosts == [proxy.address]


def test_traffic_is_counted_by_method_path_and_direction(proxy: FaultProxy) -> None:
    ask(proxy, "PUT", "/packs/a%20b?part=1", BODY)
    ask(proxy, "GET", "/tree/3000")
    ask(proxy, "GET", "/tree/3000")
    traffic = proxy.traffic
    assert traffic.sent() == traffic.sent("PUT", "packs/a b") == len(BODY)
    assert traffic.received(path="^/tree/") == 6000
    assert traffic.by_path() == {("PUT", "/packs/a b"): 1, ("GET", "/tree/3000"): 2}
    assert [exchange.status for exchange in traffic.requests("GET")] == [200, 200]
    assert len(BODY) < traffic.bytes_up < len(BODY) + 1000
    assert traffic.connections == 3
    proxy.forget_traffic()
    assert (proxy.traffic.bytes_up, proxy.traffic.requests()) == (0, [])


def test_latency_is_paid_in_each_direction_and_once_for_connecting(proxy: FaultProxy) -> None:
    proxy.faults = Faults(latency=0.05)
    with closing(client(proxy)) as connection:

        def answered() -> None:
            connection.request("GET", "/1000")
            connection.getresponse().read()

        assert took(answered) >= 0.2
        assert 0.1 <= min(took(answered) for _ in range(5)) < 0.2


def test_latency_does_not_limit_the_rate(proxy: FaultProxy) -> None:
    proxy.faults = Faults(latency=0.05)
    # 160 pieces: one after the other they would take eight seconds
    assert took(lambda: ask(proxy, "PUT", "/big", BODY * 20)) < 6


def three_at_once(proxy: FaultProxy) -> None:
    """Two download 300 kB each, and one uploads as much."""
    workers = [threading.Thread(target=ask, args=(proxy, "GET", "/300000")) for _ in range(2)]
    workers.append(threading.Thread(target=ask, args=(proxy, "PUT", "/up", BODY[:300000])))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_bandwidth_is_capped_for_each_connection_by_itself(proxy: FaultProxy) -> None:
    proxy.faults = Faults(bandwidth=1_000_000)
    assert 0.28 <= min(took(lambda: three_at_once(proxy)) for _ in range(3)) < 0.8  # one after the other: 0.9
    assert proxy.traffic.most_at_once >= 3  # the last of a try may end while the next begins


def test_a_cap_for_all_connections_together_is_shared(proxy: FaultProxy) -> None:
    proxy.faults = Faults(together=1_000_000)
    assert 0.58 <= min(took(lambda: three_at_once(proxy)) for _ in range(3)) < 0.85  # each direction has its own


def test_refused_means_nobody_listens_until_told_otherwise(proxy: FaultProxy) -> None:
    with closing(client(proxy)) as connection:
        connection.request("GET", "/1")
        connection.getresponse().read()
        address = proxy.address
        proxy.faults = Faults(refuse=True)
        with pytest.raises(ConnectionRefusedError):
            ask(proxy, "GET", "/1")
        with pytest.raises(ConnectionError):
            ask_again(connection)
    proxy.faults = Faults()
    assert proxy.address == address
    assert ask(proxy, "GET", "/1") == (200, b"\0")


def ask_again(connection: http.client.HTTPConnection) -> None:
    connection.auto_open = 0
    connection.sock.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
    if not connection.sock.recv(1):
        raise ConnectionError


def test_dropped_connections_are_reset_and_new_ones_work(proxy: FaultProxy) -> None:
    with dialled(proxy) as idle:
        idle.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        while not idle.recv(4096).endswith(b"\0"):  # the one byte of the body
            pass
        proxy.drop_connections()
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
    assert ask(proxy, "GET", "/1")[0] == 200


def test_every_connection_is_reset_after_its_share_of_bytes(proxy: FaultProxy) -> None:
    proxy.faults = Faults(reset_after=100_000)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            ask(proxy, "GET", "/200000")
    assert 190_000 < proxy.traffic.bytes_up + proxy.traffic.bytes_down <= 200_000
    assert ask(proxy, "GET", "/5000") == (200, BODY[:5000])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_burst_of_refusals_ends_after_its_count(proxy: FaultProxy, handler: type[TinyHandler], status: int) -> None:
    proxy.faults = Faults(rules=(Answer(status=status, retry_after=1, method="PUT", path="^/packs/", times=2),))
    with closing(client(proxy)) as connection:
        statuses = []
        for path in ("/packs/1", "/other", "/packs/1", "/packs/1"):
            connection.request("PUT", path, BODY)
            response = connection.getresponse()
            statuses.append((path, response.status, response.headers["Retry-After"]))
            response.read()
    assert statuses == [
        ("/packs/1", status, "1"),
        ("/other", 200, None),
        ("/packs/1", status, "1"),
        ("/packs/1", 200, None),
    ]
    assert proxy.traffic.connections == 1
    assert handler.kept == {"/other": BODY, "/packs/1": BODY}


def test_a_rule_spares_the_first_requests_when_asked(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(Answer(spare=2, times=1),))
    assert [ask(proxy, "GET", "/1")[0] for _ in range(4)] == [200, 200, 503, 200]


def test_a_truncated_body_ends_early_under_its_full_length(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(Truncate(at=1000, times=1),))
    with pytest.raises(http.client.IncompleteRead) as short:
        ask(proxy, "GET", "/5000")
    assert len(short.value.partial) == 1000
    assert ask(proxy, "GET", "/5000") == (200, BODY[:5000])


def test_a_relabelled_short_body_looks_whole(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(Truncate(at=1000, relabel=True),))
    assert ask(proxy, "GET", "/5000") == (200, BODY[:1000])
    assert ask(proxy, "GET", "/500") == (200, BODY[:500])


@pytest.mark.parametrize(("path", "at", "place"), [("/5000", 70, 70), ("/100", 470, 70), ("/chunked/5000", 3000, 3000)])
def test_one_bit_of_a_body_is_flipped(proxy: FaultProxy, path: str, at: int, place: int) -> None:
    proxy.faults = Faults(rules=(FlipBit(at=at, times=1),))
    expected = bytearray(BODY[: int(path.rpartition("/")[2])])
    expected[place] ^= 1
    assert ask(proxy, "GET", path) == (200, bytes(expected))
    expected[place] ^= 1
    assert ask(proxy, "GET", path) == (200, bytes(expected))


def test_a_flip_finds_its_place_in_a_later_piece(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(FlipBit(at=400_001),))
    _, body = ask(proxy, "GET", "/500000")
    assert [place for place in range(500_000) if body[place] != BODY[place]] == [400_001]


def test_a_lost_response_leaves_the_request_done(proxy: FaultProxy, handler: type[TinyHandler]) -> None:
    proxy.faults = Faults(rules=(LoseResponse(method="PUT", times=1),))
    with pytest.raises(ConnectionResetError):
        ask(proxy, "PUT", "/kept", BODY)
    assert handler.kept == {"/kept": BODY}
    (lost,) = proxy.traffic.requests()
    assert (lost.status, lost.received, lost.harm) == (200, 0, proxy.faults.rules[0])


def test_a_cut_request_reaches_the_server_in_part(proxy: FaultProxy, handler: type[TinyHandler]) -> None:
    proxy.faults = Faults(rules=(CutRequest(method="PUT", at=100_000, times=1),))
    with pytest.raises(ConnectionError):
        ask(proxy, "PUT", "/kept", BODY)
    assert proxy.traffic.sent() == 100_000
    assert handler.kept == {}


def test_a_cut_response_ends_in_a_reset(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(CutResponse(at=1000, times=1),))
    with pytest.raises(ConnectionResetError):
        ask(proxy, "GET", "/500000")
    assert proxy.traffic.received() == 1000


def test_a_held_request_waits_and_others_do_not(proxy: FaultProxy) -> None:
    proxy.faults = Faults(rules=(Hold(seconds=0.5, path="slow"),))
    quick = min(took(lambda: ask(proxy, "GET", "/quick/1")) for _ in range(3))
    assert took(lambda: ask(proxy, "GET", "/slow/1")) >= 0.5 > quick


def test_a_client_that_waits_for_leave_gets_it_from_the_server(proxy: FaultProxy, handler: type[TinyHandler]) -> None:
    with dialled(proxy) as careful:
        careful.sendall(b"PUT /kept HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert careful.recv(100).startswith(b"HTTP/1.1 100 ")
        careful.sendall(b"body")
        assert careful.recv(100).startswith(b"HTTP/1.1 200 ")
    assert handler.kept == {"/kept": b"body"}


def test_a_server_that_is_gone_looks_like_a_reset() -> None:
    with tiny_server() as (address, _):
        pass
    with FaultProxy(address) as proxy, pytest.raises(ConnectionError):
        ask(proxy, "GET", "/1")


def test_leaving_ends_connections_and_threads() -> None:
    with tiny_server() as (address, _), FaultProxy(address) as proxy:
        idle = dialled(proxy)
        idle.sendall(b"GET /")
    with idle, pytest.raises(ConnectionResetError):
        idle.recv(1)
    assert "fault-proxy" not in {thread.name for thread in threading.enumerate()}
