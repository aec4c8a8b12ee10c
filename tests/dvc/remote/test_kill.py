"""`kill -9` in the middle of a push and of a pull: the next one finishes, and does nothing a second time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import DVC, Project
from dvc_support.places import Place
from shardflow.store.config import Settings
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]
PACK = 1 << 20
SIZE = 96 * PACK


@pytest.fixture
def filled(here: Project, disk: Place, noise: Noise) -> Project:
    """A project with a file of many packs, not pushed yet."""
    Store.init(disk.url, Settings(pack_bytes=PACK, chunk_bytes=64 << 10))
    (here.root / "weights.bin").write_bytes(noise(SIZE))
    here.must("add", "weights.bin")
    here.commit()
    return here


def killed(project: Project, command: str, once: Callable[[], bool]) -> None:
    """Run a command until something can be seen, and kill it."""
    with subprocess.Popen([*DVC, command, "-q"], cwd=project.root, env=dict(os.environ)) as process:
        while not once():
            assert process.poll() is None, "it was over before it could be killed"
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def packs(store: Path) -> dict[Path, tuple[int, int]]:
    """Whole packs, and which files they are."""
    found = [file for file in (store / "packs").rglob("*") if file.is_file() and file.stat().st_size > PACK // 2]
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found}


def test_a_killed_push_is_finished_by_the_next_one_which_sends_no_finished_pack_again(
    filled: Project, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    killed(filled, "push", lambda: len(packs(store)) > 3)
    done = packs(store)
    assert not list((store / "tree").rglob("*"))
    filled.must("push")
    assert done.items() <= packs(store).items()
    there = filled.clone(tmp_path / "there")
    there.must("pull")
    assert (there.root / "weights.bin").read_bytes() == (filled.root / "weights.bin").read_bytes()


def test_a_push_of_many_small_files_that_is_killed_leaves_whole_ones_and_is_finished(
    here: Project, disk: Place, tmp_path: Path, noise: Noise
) -> None:
    Store.init(disk.url)
    (here.root / "many").mkdir()
    for number in range(3000):
        (here.root / "many" / str(number)).write_bytes(noise(300))
    here.must("add", "many")
    here.commit()
    killed(here, "push", lambda: len(list((tmp_path / "store" / "tree").rglob("*/*/*"))) > 300)
    stored = {path for path, manifest in disk.store.manifests() if manifest.size == 300}
    assert 0 < len(stored) < 3000
    here.must("push")
    assert len(disk.files) == 3001
    there = here.clone(tmp_path / "there")
    there.must("pull")
    for number in range(3000):
        assert (there.root / "many" / str(number)).read_bytes() == (here.root / "many" / str(number)).read_bytes()


def test_a_killed_pull_is_finished_by_the_next_one_which_goes_on_in_the_same_file(
    filled: Project, tmp_path: Path
) -> None:
    filled.must("push")
    there = filled.clone(tmp_path / "there")
    cache = there.root / ".dvc" / "cache" / "files" / "md5"

    def begun() -> list[Path]:
        return [part for part in cache.glob("*/.shardflow-*.part") if part.stat().st_blocks * 512 > 4 * PACK]

    killed(there, "pull", lambda: bool(begun()))
    (part,) = begun()
    file = part.stat().st_ino
    assert not (there.root / "weights.bin").exists()
    there.must("pull")
    assert (there.root / "weights.bin").read_bytes() == (filled.root / "weights.bin").read_bytes()
    assert [each.stat().st_ino for each in cache.glob("*/*")] == [file]
