"""What several of the transport's tests need: a misbehaving server, and transports that do not wait long."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shardflow.transport import RetryPolicy, StoreURL, Transport, connect
from transport.scripted_s3 import ScriptedS3, scripted_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE_ROOT = str(Path(__file__).parents[2] / "plugins")
IMPATIENT = RetryPolicy(attempts=4, deadline=20, base_delay=0.001, max_delay=0.002)


@pytest.fixture(autouse=True)
def forced_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here is where that is tested, so files are written as they are for users who set nothing."""
    monkeypatch.delenv("SHARDFLOW_FSYNC")


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and directories that are forced to the disk one by one, as it happens."""
    paths: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    return paths


@pytest.fixture
def server() -> Iterator[ScriptedS3]:
    """An S3 server that does as the test tells it."""
    with scripted_s3() as running:
        yield running


@pytest.fixture
def s3(server: ScriptedS3) -> Transport:
    """A transport to it, with short waits between attempts."""
    return connect(StoreURL.parse("shardflow://s3/bkt"), options_for(server), IMPATIENT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the `file` store of a test lies; it is not made yet."""
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Transport:
    """The `file` store at `root`."""
    return connect(StoreURL("file", str(root)))


def options_for(server: ScriptedS3) -> dict[str, str]:
    """What makes a transport talk to this server."""
    return {
        "endpoint": server.endpoint,
        "access_key_id": "KEYID",
        "secret_access_key": "not-to-be-shown",
        "region": "us-east-1",
    }


def unfinished(root: Path) -> list[str]:
    """Names of the temporary files in a `file` store."""
    return [path.name for path in (root / ".incoming").glob("*.part")]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another process, for what would harm this one."""
    preamble = """
        import os, resource, signal, sys
        from shardflow.transport import *
        store = connect(StoreURL("file", sys.argv[1]))
    """
    program = textwrap.dedent(preamble) + textwrap.dedent(code)
    environment = {**os.environ, "PYTHONPATH": PACKAGE_ROOT}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
