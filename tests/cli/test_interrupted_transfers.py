"""Ctrl-C while packs are sent or a file is written: nothing half done is seen, and the next run goes on from there."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import COMMAND
from faults.proxy import FaultProxy
from faults.rules import Faults
from services.fixtures import Proxied, fresh_url
from services.service import Service
from shardflow.store.config import Settings
from shardflow.store.store import Store

PACK = 64 << 10
CONTENT = random.Random(5).randbytes(30 * PACK)
SLOW = Faults(together=1e6)  # bytes a second: a transfer lasts for two seconds
PACKS = "^[^?]*/packs/"
IN_HAND = 8
"""Packs that may be under way, or finished and not noted yet."""
SAID = "shardflow: interrupted; run the same command again: what is finished stays, and it goes on from there\n"


@pytest.fixture
def slow(moto: Service, fault_proxy: Callable[[Service], Proxied], monkeypatch: pytest.MonkeyPatch) -> Proxied:
    """A server whose link can be made slow, found by the environment."""
    proxied = fault_proxy(moto)
    for name, value in proxied.service.env.items():
        monkeypatch.setenv(name, value)
    return proxied


@pytest.fixture
def store(slow: Proxied) -> Store:
    return Store.init(fresh_url(slow.service), Settings(pack_bytes=PACK, chunk_bytes=16 << 10))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "model.bin"
    source.write_bytes(CONTENT)
    return source


def interrupt_when(reached: Callable[[], bool], *arguments: str | Path) -> None:
    """Run a command, and press Ctrl-C as soon as it has come so far."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not reached():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", SAID)


def finish(*arguments: str | Path) -> None:
    subprocess.run([*COMMAND, *map(str, arguments)], check=True, timeout=60, stdout=subprocess.DEVNULL)


def arrived(proxy: FaultProxy) -> set[str]:
    """The packs that the server has, whether or not the client heard of it."""
    return {exchange.path for exchange in proxy.traffic.requests("PUT", PACKS) if exchange.status == 200}


@pytest.mark.parametrize("earlier", [[], ["model.bin"]])
def test_an_interrupted_put_shows_nothing_of_it_and_goes_on(
    slow: Proxied, store: Store, source: Path, tmp_path: Path, earlier: list[str]
) -> None:
    for path in earlier:
        (tmp_path / "earlier").write_bytes(b"what was there before")
        store.put(tmp_path / "earlier", path)
    slow.proxy.faults = SLOW

    interrupt_when(lambda: len(arrived(slow.proxy)) >= 12, "put", source, store.url.joined("model.bin"))

    slow.proxy.faults = Faults()
    assert [entry.path for entry in store.ls()] == earlier
    assert [store.open(path).read() for path in earlier] == [b"what was there before" for _ in earlier]
    finished = arrived(slow.proxy)
    slow.proxy.forget_traffic()

    finish("put", source, store.url.joined("model.bin"))

    assert not arrived(slow.proxy) & finished
    assert slow.proxy.traffic.sent("PUT", PACKS) <= len(CONTENT) - (len(finished) - IN_HAND) * PACK
    assert store.open("model.bin").read() == CONTENT


@pytest.mark.parametrize("earlier", [None, b"what was there before"])
def test_an_interrupted_get_leaves_the_target_as_it_was_and_goes_on(
    slow: Proxied, store: Store, source: Path, tmp_path: Path, earlier: bytes | None
) -> None:
    store.put(source, "model.bin")
    target = tmp_path / "there" / "model.bin"
    target.parent.mkdir()
    if earlier is not None:
        target.write_bytes(earlier)
    slow.proxy.forget_traffic()
    slow.proxy.faults = SLOW

    interrupt_when(lambda: kept(target.parent) >= len(CONTENT) // 3, "get", store.url.joined("model.bin"), target)

    assert (target.read_bytes() if target.exists() else None) == earlier
    assert {path.name for path in visible(target.parent)} == ({target.name} if earlier else set())
    there = kept(target.parent)
    slow.proxy.faults = Faults()
    slow.proxy.forget_traffic()

    finish("get", store.url.joined("model.bin"), target)

    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert slow.proxy.traffic.received("GET", PACKS) <= len(CONTENT) - there + IN_HAND * PACK


def kept(directory: Path) -> int:
    """What unfinished files hold."""
    return sum(path.stat().st_blocks * 512 for path in directory.glob(".shardflow-*.part"))


def visible(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if not path.name.startswith(".")]
