"""Pushes beside those who clean up: what was pushed is there afterwards, whoever removed what it shares meanwhile."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import Project
from dvc_support.places import Place
from shardflow.store.care.gc import collect
from shardflow.store.config import Settings
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]


PUSH_BESIDE_GC = """\
import sys, time
from dvc.cli import main
from shardflow.store.care.gc import collect
from shardflow.store.commit import Committer
from shardflow.store.store import Store

commit, collections = Committer.commit, {collections}

def commit_after_gc(committer, files):
    global collections
    used = {{committer._catalog.packs[committer._catalog.pack_of(row)].hex() for file in files for row in file.rows}}
    if collections and "{pack}" in used:
        print("relies on the pack")
        store, _ = Store.find("{url}")
        store.rm("old.bin")
        for _ in range(collections):
            collect(store)
            time.sleep(1.1)
        collections = 0
    commit(committer, files)

Committer.commit = commit_after_gc
sys.exit(main(["push"]))
"""
"""The last file that names a pack goes, and gc runs, just when a push is about to name that pack as well."""


@pytest.mark.parametrize(("collections", "after"), [(1, "set aside"), (2, "deleted")])
def test_a_pack_that_gc_takes_just_when_a_push_is_to_share_it_is_not_missed(
    here: Project, disk: Place, tmp_path: Path, noise: Noise, collections: int, after: str
) -> None:
    Store.init(disk.url, Settings(gc_grace_seconds=1))
    shared = noise(2 << 20)
    (tmp_path / "old.bin").write_bytes(shared)
    disk.store.put(tmp_path / "old.bin", "old.bin")
    (pack,) = packs(disk)
    make_old(disk)

    (here.root / "new.bin").write_bytes(content := shared + b"and more" * 5_000)
    here.must("add", "new.bin")
    here.commit()
    program = PUSH_BESIDE_GC.format(collections=collections, pack=pack, url=disk.url)
    done = here.run(sys.executable, "-c", program)
    assert done.code == 0, done.all
    assert "relies on the pack" in done.out
    assert (pack in packs(disk)) == (after == "set aside")
    collect(disk.store)
    assert pack not in packs(disk)

    there = here.clone(tmp_path / "there")
    there.must("pull")
    assert (there.root / "new.bin").read_bytes() == content


def make_old(place: Place) -> None:
    """So that no pack is too young for gc to judge, however soon that runs."""
    before = time.time() - 3600
    for info in place.store.transport.list("packs/"):
        os.utime(Path(place.url.removeprefix("shardflow://file"), info.key), (before, before))


def packs(place: Place) -> set[str]:
    """The packs that there are, by their digests."""
    return {info.key.rpartition("/")[2].partition(".")[0] for info in place.store.transport.list("packs/")}


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
