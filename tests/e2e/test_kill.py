"""SIGKILL in the middle of a put or a get, then the same command again: it finishes, and repeats no finished work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.config import Settings
from shardflow.store.store import Store

PACK = 1 << 20
SETTINGS = Settings(pack_bytes=PACK, chunk_bytes=1 << 20)
CONTENT = random.Random(5).randbytes(40 * PACK)
WORKERS = 4
"""Packs that a put has in hand at once; so many may be sent again."""


@pytest.fixture(params=["disk", "moto", pytest.param("ceph", marks=pytest.mark.service("ceph"))])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A URL and the environment in which a command reaches it."""
    if request.param == "disk":
        return str(tmp_path / "store"), {}
    service: Service = request.getfixturevalue(request.param)
    return fresh_url(service), dict(service.env)


@pytest.fixture
def store(place: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Store:
    url, environment = place
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Store.init(url, SETTINGS)


def command(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "shardflow.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(*arguments: str) -> None:
    process = command(*arguments)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints.decode()


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """Kill a command as soon as something is seen; it may be too quick for that, and then it has finished."""
    while process.poll() is None and not reached():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def packs(store: Store) -> dict[str, float]:
    return {info.key: info.modified for info in store.transport.list("packs/")}


@pytest.mark.parametrize("after", [1, 25])
def test_a_killed_put_goes_on_where_it_was(store: Store, tmp_path: Path, after: int) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(CONTENT)
    target = f"{store.url}/model.bin"

    kill_when(command("put", str(source), target), lambda: len(packs(store)) >= after)
    arrived = packs(store)
    assert "tree/model.bin" not in {info.key for info in store.transport.list("tree/")} or len(arrived) > 35

    finish("put", str(source), target)

    everything = packs(store)
    assert {key: everything[key] for key in arrived} == arrived
    sent = sum(info.size for info in store.transport.list("packs/"))
    assert sent <= len(CONTENT) + WORKERS * PACK + (1 << 20)
    assert store.open("model.bin").read() == CONTENT


def test_a_killed_get_goes_on_where_it_was(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(CONTENT)
    store.put(source, "model.bin")
    there = tmp_path / "there"
    there.mkdir()

    def written() -> bool:
        return any(path.stat().st_blocks * 512 >= len(CONTENT) // 3 for path in there.glob(".shardflow-*.part"))

    kill_when(command("get", f"{store.url}/model.bin", str(there / "model.bin")), written)
    kept = sum(path.stat().st_blocks * 512 for path in there.glob(".shardflow-*.part"))

    report = store.get("model.bin", there / "model.bin")

    assert (there / "model.bin").read_bytes() == CONTENT
    assert kept >= len(CONTENT) // 3
    # Of each thread a chunk may have been half on the disk.
    assert report.bytes_reused >= kept - (4 << 20)
    assert report.totals.bytes_received <= len(CONTENT) - kept + (4 << 20)
    assert not list(there.glob(".shardflow-*.part"))
