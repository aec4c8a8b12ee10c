"""A directory takes the place of another; a process that is killed at any moment leaves the old one or the new one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from services.warmed import start
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats import exchanging
from shardflow.flavor.formats.errors import CheckpointExists

OLD, NEW = {"w": torch.full((9, 9), 1.0)}, {"w": torch.full((9, 9), 2.0)}
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def save_and_die(target: Path, dies_at: int, *, one_step: bool) -> None:
    """Save, in a process that is killed right before it changes the file system for the n-th time."""
    changes = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            changes += 1
            if changes == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if not one_step:
        exchanging.exchanged = lambda *_: False
    sys.addaudithook(count)
    formats.save(NEW, target, replace=True)


@pytest.mark.parametrize("one_step", [True, False], ids=["exchanged", "put-aside"])
def test_a_save_killed_before_any_change_leaves_the_old_or_the_new_checkpoint(one_step: bool, tmp_path: Path) -> None:
    found: list[str] = []
    away = 0
    while True:
        target = tmp_path / str(len(found)) / "c"
        formats.save(OLD, target)
        saving = start(save_and_die, target, len(found) + 1, one_step=one_step)
        saving.join(60)
        found.append(which(target))
        away += not target.exists()
        with pytest.raises(CheckpointExists, match="exists"):
            formats.save(OLD, target)
        formats.save(OLD, target, replace=True)
        assert which(target) == "old"
        assert [path.name for path in target.parent.iterdir() if path.suffix == ".old"] == []
        if saving.exitcode == 0:
            break
        assert saving.exitcode == -signal.SIGKILL
    assert found == sorted(found, reverse=True)
    assert found.count("old") >= 2
    assert found.count("new") >= 3  # also while what was there is removed
    assert away == (0 if one_step else 1)
    assert [path.name for path in target.parent.iterdir()] == ["c"]


def test_nobody_elses_files_are_taken_for_what_a_place_has_had(tmp_path: Path) -> None:
    for name in (".c.v2.0a1b2c3d.old", ".c.bak.old"):
        formats.save(OLD, tmp_path / name)
    with pytest.raises(CheckpointUnusable, match="does not exist"):
        formats.load(tmp_path / "c")
    formats.save(NEW, tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"c", ".c.v2.0a1b2c3d.old", ".c.bak.old"}


def test_what_was_put_aside_does_not_come_back_when_what_took_its_place_is_removed(tmp_path: Path) -> None:
    formats.save(OLD, tmp_path / "c")
    formats.save(OLD, tmp_path / ".c.0a1b2c3d.old")
    formats.save(NEW, tmp_path / "c", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_two_names_are_exchanged_in_one_step_whatever_they_stand_for(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nothing")
    assert exchanging.exchanged(tmp_path / "directory", tmp_path / "link")
    assert (tmp_path / "directory").is_symlink()
    assert (tmp_path / "link").is_dir()
    assert not exchanging.exchanged(tmp_path / "link", tmp_path / "none")


@pytest.mark.parametrize("there", ["directory", "file", "link", "link to nothing"])
@pytest.mark.parametrize("one_step", [True, False], ids=["exchanged", "put-aside"])
def test_whatever_has_the_name_is_replaced_and_nothing_is_left_of_it(
    one_step: bool, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_step:
        monkeypatch.setattr(exchanging, "exchanged", lambda *_: False)
    place, elsewhere = tmp_path / "place" / "c", tmp_path / "elsewhere"
    place.parent.mkdir()
    formats.save(OLD, elsewhere)
    if there == "directory":
        formats.save(OLD, place)
    elif there == "file":
        place.write_text("in the way")
    else:
        place.symlink_to(elsewhere if there == "link" else "nothing")
    formats.save(NEW, place, replace=True)
    assert (which(place), which(elsewhere)) == ("new", "old")
    assert [path.name for path in place.parent.iterdir()] == ["c"]
    assert not place.is_symlink()


def test_what_cannot_be_put_in_place_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "exchanged", lambda *_: False)
    formats.save(OLD, tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        exchanging.put_in_place(tmp_path / ".c.gone.part", tmp_path / "c", replace=True)
    assert which(tmp_path / "c") == "old"


def which(place: Path) -> str:
    return "old" if torch.equal(formats.load(place)["w"], OLD["w"]) else "new"
