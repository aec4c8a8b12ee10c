"""Disks that are really full, under the store or under the project: told in one line, and the next run finishes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import DVC, Done, Project, project
from dvc_support.places import Place
from services.small_disk import SmallDisk
from shardflow.store.config import Settings
from shardflow.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.service("small_disk")]

Noise = Callable[[int], bytes]
MIB = 1 << 20
SMALL = Settings(pack_bytes=MIB, chunk_bytes=64 << 10)


def dvc(disk: SmallDisk, here: Project, *arguments: str) -> Done:
    """A command that sees the disk."""
    done = disk.run(*DVC, *arguments, cwd=here.root, env=dict(os.environ))
    return Done(done.returncode, done.stdout, done.stderr)


def assert_told(done: Done, says: str) -> None:
    assert done.code != 0
    assert re.search(says, done.all)
    assert "free some" in done.all
    for unclear in ("Traceback", "unexpected error", "having any troubles"):
        assert unclear not in done.all


def test_a_push_into_a_store_whose_disk_is_full_is_told_and_goes_on_when_it_has_room(
    small_disk: SmallDisk, tmp_path: Path, noise: Noise
) -> None:
    url = f"shardflow://file{small_disk.path}/store"
    here = project(tmp_path / "here", url)
    (here.root / "weights.bin").write_bytes(content := noise(6 * MIB))
    here.must("add", "weights.bin")
    small_disk.resize(4 * MIB)
    Store.init(f"shardflow://file{small_disk.seen}/store", SMALL)

    assert_told(dvc(small_disk, here, "push"), r"cannot write packs/\S+ in shardflow://file\S+/store: no space left")
    packs = list((small_disk.seen / "store" / "packs").rglob("*"))
    finished = {pack: pack.stat().st_mtime_ns for pack in packs if pack.is_file() and pack.stat().st_size >= MIB // 2}
    assert finished
    assert not list((small_disk.seen / "store" / "tree").rglob("*"))

    small_disk.resize(16 * MIB)
    assert dvc(small_disk, here, "push").code == 0
    assert {pack: pack.stat().st_mtime_ns for pack in finished} == finished
    (here.root / "weights.bin").unlink()
    assert dvc(small_disk, here, "fetch").code == 0
    here.must("checkout")
    assert (here.root / "weights.bin").read_bytes() == content


def test_many_small_files_that_find_the_disk_full_leave_none_half_stored_and_arrive_when_it_has_room(
    small_disk: SmallDisk, tmp_path: Path, noise: Noise
) -> None:
    here = project(tmp_path / "here", f"shardflow://file{small_disk.path}/store")
    (here.root / "many").mkdir()
    for number in range(600):
        (here.root / "many" / str(number)).write_bytes(noise(8 << 10))
    here.must("add", "many")
    small_disk.resize(3 * MIB)

    assert_told(dvc(small_disk, here, "push"), r"cannot write tree/\S+ in shardflow://file\S+/store: no space left")
    store = small_disk.seen / "store"
    assert not list((store / ".incoming").glob("*.part"))
    small_disk.resize(16 * MIB)
    seen = Store.find(f"shardflow://file{store}")[0]
    stored = [path for path, _ in seen.manifests()]  # each is whole, or this would not read it
    assert len(stored) < 400

    assert dvc(small_disk, here, "push").code == 0
    assert len(list(seen.manifests())) == 601


def pushed(disk: Place, root: Path, *files: bytes) -> Project:
    """A project with a directory of files, in a store."""
    here = disk.project(root)
    Store.init(disk.url, SMALL)
    (here.root / "data").mkdir()
    for number, content in enumerate(files):
        (here.root / "data" / f"{number}.bin").write_bytes(content)
    here.must("add", "data")
    here.must("push")
    here.commit()
    return here


def cloned(here: Project, small_disk: SmallDisk) -> Project:
    """A clone on the small disk, as its commands see it."""
    there = small_disk.path / "there"
    assert small_disk.run("git", "clone", "-q", str(here.root), str(there)).returncode == 0
    return Project(there)


def contents(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (root / "data").iterdir()}


def objects(root: Path) -> dict[str, int]:
    """Files in the cache of a project, and which ones they are."""
    found = (root / ".dvc" / "cache" / "files").rglob("*")
    return {file.name: file.stat().st_ino for file in found if len(file.name) == 30}


def test_a_file_that_has_no_room_is_told_before_any_of_it_is_fetched(
    small_disk: SmallDisk, disk: Place, tmp_path: Path, noise: Noise
) -> None:
    here = pushed(disk, tmp_path / "here", noise(6 * MIB))
    small_disk.resize(4 * MIB)
    there, seen = cloned(here, small_disk), small_disk.seen / "there"
    assert_told(dvc(small_disk, there, "pull"), r"needs 6291456 bytes, and \d+ are free there")
    assert not (seen / "data" / "0.bin").exists()
    small_disk.resize(16 * MIB)
    assert dvc(small_disk, there, "pull").code == 0
    assert contents(seen) == contents(here.root)


@pytest.mark.parametrize("size", [60_000, 300_000], ids=["in their manifests", "in packs"])
def test_a_pull_that_fills_the_disk_is_told_and_the_next_one_keeps_what_it_had(
    size: int, small_disk: SmallDisk, disk: Place, tmp_path: Path, noise: Noise
) -> None:
    here = pushed(disk, tmp_path / "here", *(noise(size) for _ in range(6 * MIB // size)))
    small_disk.resize(4 * MIB)
    there, seen = cloned(here, small_disk), small_disk.seen / "there"
    assert_told(dvc(small_disk, there, "pull"), "no space left|are free there")
    begun = objects(seen)
    assert begun

    small_disk.resize(32 * MIB)
    assert dvc(small_disk, there, "pull").code == 0
    assert contents(seen) == contents(here.root)
    assert begun.items() <= objects(seen).items()
    assert not list(seen.rglob(".shardflow-*"))


def test_a_pull_whose_copies_in_the_workspace_have_no_room_is_finished_without_the_store(
    small_disk: SmallDisk, disk: Place, tmp_path: Path, noise: Noise
) -> None:
    """DVC copies from its cache where files cannot be linked, and tells of that itself."""
    here = pushed(disk, tmp_path / "here", noise(6 * MIB))
    small_disk.resize(9 * MIB)
    there, seen = cloned(here, small_disk), small_disk.seen / "there"
    done = dvc(small_disk, there, "pull")
    assert done.code != 0
    assert "Checkout failed" in done.err
    assert not (seen / "data" / "0.bin").exists()

    (tmp_path / "store").rename(tmp_path / "unplugged")
    small_disk.resize(16 * MIB)
    assert dvc(small_disk, there, "checkout").code == 0
    assert contents(seen) == contents(here.root)
