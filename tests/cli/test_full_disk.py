"""A disk that is really full, under the store or under the target: told in one line, and the same command finishes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import COMMAND
from services.small_disk import SmallDisk
from shardflow.store.config import Settings
from shardflow.store.store import Store

pytestmark = pytest.mark.service("small_disk")

MIB = 1 << 20
SMALL = Settings(pack_bytes=MIB, chunk_bytes=64 << 10)


def run(disk: SmallDisk, *arguments: object) -> str:
    """What a command says that fails; nothing of one that does not."""
    done = disk.run(*COMMAND, *(str(each) for each in arguments), env=dict(os.environ))
    assert done.returncode in (0, 1)
    assert done.returncode == 1 or not done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(6 * MIB))
    return source


def test_a_put_into_a_store_whose_disk_is_full(small_disk: SmallDisk, content: Path) -> None:
    small_disk.resize(4 * MIB)
    Store.init(f"shardflow://file{small_disk.seen}/store", SMALL)
    url = f"shardflow://file{small_disk.path}/store/weights.bin"
    told = run(small_disk, "put", content, url)
    assert "no space left" in told
    assert "free some space" in told
    assert told.count("\n") == 0
    small_disk.resize(16 * MIB)
    assert run(small_disk, "put", content, url) == ""
    store, _ = Store.find(f"shardflow://file{small_disk.seen}/store")
    assert store.open("weights.bin").read() == content.read_bytes()


def test_a_get_to_a_disk_that_is_full(small_disk: SmallDisk, content: Path, tmp_path: Path) -> None:
    store = Store.init(f"shardflow://file{tmp_path}/store", SMALL)
    store.put(content, "weights.bin")
    target = small_disk.path / "weights.bin"
    small_disk.resize(4 * MIB)
    told = run(small_disk, "get", f"{store.url}/weights.bin", target)
    assert f"{target} needs {6 * MIB} bytes, and " in told
    assert "free some space, or choose another target" in told
    assert not (small_disk.seen / "weights.bin").exists()
    small_disk.resize(16 * MIB)
    assert run(small_disk, "get", f"{store.url}/weights.bin", target) == ""
    assert (small_disk.seen / "weights.bin").read_bytes() == content.read_bytes()
    assert [file.name for file in small_disk.seen.iterdir()] == ["weights.bin"]
