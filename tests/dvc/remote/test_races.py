"""Pushes beside those who clean up: what was pushed is there afterwards, whoever removed what it shares meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from dvc_support.commands import Project
from dvc_support.places import Place
from shardflow.store.care.gc import collect
from shardflow.store.config import Settings
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]


@contextmanager
def collecting(store: Store) -> Iterator[None]:
    """The store's gc, again and again."""
    ends, failures = Event(), list[BaseException]()

    def work() -> None:
        while not ends.wait(0.05):
            try:
                collect(store)
            except BaseException as error:  # noqa: BLE001  # told below
                failures.append(error)
                return

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
    assert failures == []


def test_a_gc_beside_pushes_takes_nothing_that_they_need(
    here: Project, disk: Place, tmp_path: Path, noise: Noise
) -> None:
    Store.init(disk.url, Settings(gc_grace_seconds=1))
    shared = noise(4 << 20)
    (here.root / "old.bin").write_bytes(shared)
    here.must("add", "old.bin")
    here.must("push")
    here.must("remove", "old.bin.dvc")
    here.must("gc", "-w", "-c", "-f")
    assert disk.files == []

    with collecting(disk.store):
        for number in range(2):
            (here.root / f"{number}.bin").write_bytes(shared + bytes([number]) * 50_000)
            here.must("add", f"{number}.bin")
            here.must("push")
    here.commit()
    there = here.clone(tmp_path / "there")
    there.must("pull")
    for number in range(2):
        assert (there.root / f"{number}.bin").read_bytes() == shared + bytes([number]) * 50_000


def test_what_gc_freed_is_pushed_again_by_whoever_has_it(here: Project, disk: Place, noise: Noise) -> None:
    """DVC remembers what a remote had; after a gc by others it must look."""
    Store.init(disk.url, Settings(gc_grace_seconds=0))
    (here.root / "a.bin").write_bytes(content := noise(200_000))
    here.must("add", "a.bin")
    here.must("push")
    (key,) = (info.key for info in disk.store.transport.list("tree/"))
    disk.store.transport.delete(key)
    for _ in range(2):
        collect(disk.store)
    assert disk.packed == 0
    here.must("push")
    (path,) = disk.files
    assert disk.store.open(path).read() == content
