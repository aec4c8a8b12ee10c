"""What a pull verifies: always what the store holds, and with `verify` what was pushed to it as well."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dvc_support.commands import Project
from dvc_support.places import Place

pytestmark = pytest.mark.slow

RIGHT, WRONG = b"as it was added", b"as a disk changed it"


@pytest.fixture
def damaged(here: Project, tmp_path: Path) -> Project:
    """A clone of a project whose cache was damaged before it was pushed, and so holds a file under a wrong name."""
    (here.root / "a.txt").write_bytes(RIGHT)
    here.must("add", "a.txt")
    here.commit()
    md5 = hashlib.md5(RIGHT).hexdigest()
    cached = here.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(WRONG)
    cached.chmod(0o444)
    here.must("push")
    return here.clone(tmp_path / "there")


def test_what_was_pushed_damaged_comes_back_as_it_was_pushed(damaged: Project) -> None:
    damaged.must("pull")
    assert (damaged.root / "a.txt").read_bytes() == WRONG


def test_with_verify_it_is_not_taken_for_what_was_added(damaged: Project) -> None:
    damaged.must("remote", "modify", "--local", "store", "verify", "true")
    done = damaged.dvc("pull")
    assert done.code != 0
    assert "Checkout failed" in done.err
    assert not (damaged.root / "a.txt").exists()


def test_with_verify_what_the_store_holds_is_verified_as_ever(here: Project, disk: Place, tmp_path: Path) -> None:
    (here.root / "a.txt").write_bytes(RIGHT)
    here.must("add", "a.txt")
    here.must("push")
    here.commit()
    (path,) = disk.files
    manifest = tmp_path / "store" / "tree" / path
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(RIGHT, RIGHT[::-1]))

    there = here.clone(tmp_path / "there")
    there.must("remote", "modify", "--local", "store", "verify", "true")
    done = there.dvc("pull")
    assert done.code != 0
    assert f"{path} fails its digest" in done.err
    assert not (there.root / "a.txt").exists()
