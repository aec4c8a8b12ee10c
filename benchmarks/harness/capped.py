"""A link of so many bytes a second in each direction, shared by all connections to one server.

It is a process of its own and takes a third of a processor second a gigabyte: what is measured behind it has the
processors nearly for itself. `python -m harness.capped HOST:PORT BYTES_A_SECOND` prints the port that it listens on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Lock, Thread
from time import monotonic, sleep

from harness.child import BENCHMARKS

PIECE = 256 << 10
BURST = 0.005  # seconds: sleeping is no more exact than this, so who woke late may catch up by as much


@contextmanager
def capped(server: str, rate: float) -> Iterator[str]:
    """Where to connect, as host:port, to reach a server over such a link."""
    argv = [sys.executable, "-m", "harness.capped", server, str(rate)]
    path = os.pathsep.join(part for part in (str(BENCHMARKS), os.environ.get("PYTHONPATH", "")) if part)
    env = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"


class Direction:
    """All that goes one way, one piece after the other."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = Lock()

    def carry(self, count: int) -> None:
        """Wait for as long as so many bytes take, after those before them."""
        with self._lock:
            now = monotonic()
            self._free_at = max(now - BURST, self._free_at) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            sleep(wait)


def serve(server: tuple[str, int], rate: float) -> None:
    """Until the process is ended."""
    up, down = Direction(rate), Direction(rate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        Thread(target=join, args=(client, server, up, down), daemon=True).start()


def join(client: socket.socket, server: tuple[str, int], up: Direction, down: Direction) -> None:
    """One client's connection, until both sides have ended it."""
    with closing(client), suppress(OSError), socket.create_connection(server) as there:
        for end in (client, there):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = Thread(target=move, args=(there, client, down), daemon=True)
        answers.start()
        move(client, there, up)
        answers.join()


def move(source: socket.socket, target: socket.socket, direction: Direction) -> None:
    """All that comes from one side to the other, and its end."""
    piece = memoryview(bytearray(PIECE))
    with suppress(OSError):
        while count := source.recv_into(piece):
            target.sendall(piece[:count])
            direction.carry(count)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def end_with_the_input() -> None:
    """Whoever started this process has ended, or has had enough."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    Thread(target=end_with_the_input, daemon=True).start()
    host, _, port = sys.argv[1].rpartition(":")
    serve((host, int(port)), float(sys.argv[2]))


if __name__ == "__main__":
    main()
