"""Ctrl-C and SIGTERM end a command within two seconds, whatever it is waiting for, and say that it resumes."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.conftest import COMMAND, Command

SOON = 10  # two seconds, and what a busy machine adds


@contextmanager
def running(*args: str | Path, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Send a signal; returns exit code, stdout and stderr, after checking that it was quick."""
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < SOON
    return process.returncode, out, err


@contextmanager
def waiting_for_its_input(url: Path) -> Iterator[subprocess.Popen[str]]:
    """A put of a pipe that has taken all there was and waits for more."""
    reading, writing = os.pipe()
    try:
        with running("put", "-", url, stdin=reading) as process:
            os.write(writing, b"x" * 1000)
            waiting = array.array("i", [1])
            while waiting[0]:
                time.sleep(0.01)
                fcntl.ioctl(reading, termios.FIONREAD, waiting)
            yield process
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def silent_server() -> Iterator[tuple[socket.socket, str]]:
    """A server that takes connections and never says anything."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(30)
        yield server, f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_put_that_waits_for_its_input_ends_at_once(store: Path, number: int, code: int, word: str) -> None:
    with waiting_for_its_input(store / "x") as process:
        assert ended(process, number) == (
            code,
            "",
            f"shardflow: {word}; run the same command again: what is finished stays, and it goes on from there\n",
        )


def test_a_command_that_waits_for_a_silent_server_ends_soon() -> None:
    with silent_server() as (server, endpoint):
        options = [f"endpoint={endpoint}", "access_key_id=a", "secret_access_key=b", "region=us-east-1"]
        line = [word for option in options for word in ("-o", option)]
        with running("ls", "shardflow://s3/bucket/store", *line) as process:
            connection, _ = server.accept()
            with connection:
                code, out, err = ended(process, signal.SIGINT)
    assert (code, out, err) == (130, "", "shardflow: interrupted\n")


def test_an_interrupted_put_leaves_nothing_visible_and_works_when_run_again(
    store: Path, model: Path, shardflow: Command
) -> None:
    with waiting_for_its_input(store / "x") as process:
        assert ended(process, signal.SIGINT)[0] == 130
    assert shardflow("ls", store).out == ""
    assert shardflow("put", model, store / "x").code == 0


def test_a_signal_that_was_ignored_for_us_stays_ignored(store: Path, shardflow: Command) -> None:
    reading, writing = os.pipe()
    ignoring = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *COMMAND, "put", "-", str(store / "x")]
    process = subprocess.Popen(ignoring, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(reading)
    os.write(writing, b"x" * 1000)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    os.close(writing)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert shardflow("stat", store / "x", "--json").document["size"] == 1000
