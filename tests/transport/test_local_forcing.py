"""How files are forced to the disk: all at once where little else waits to be written, or each by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from shardflow.transport import local_forcing
from shardflow.transport.local_forcing import DIRTY_FOR_ONE, Disk, disk_below, force_each, waiting_bytes

FILES = 8


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / str(number) for number in range(FILES)]
    for path in paths:
        path.write_bytes(b"data")
    return [str(path) for path in paths]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How files were forced each time."""
    found: list[str] = []
    monkeypatch.setattr(local_forcing, "sync_file_system", lambda _: found.append("at once"))
    monkeypatch.setattr(local_forcing, "force_each", lambda _: found.append("each"))
    return found


def force(disk: Disk, files: list[str]) -> None:
    with disk.watched(Path(files[0]).parent) as forced:
        forced(files)


def test_they_are_forced_at_once_unless_others_have_more_to_write_than_that_saves(
    files: list[str], ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for waiting in (0, FILES * DIRTY_FOR_ONE, FILES * DIRTY_FOR_ONE + 1):
        monkeypatch.setattr(local_forcing, "waiting_bytes", lambda waiting=waiting: waiting)
        force(Disk(), files)
    assert ways == ["at once", "at once", "each"]


def test_after_as_much_was_spent_on_each_as_all_would_have_cost_they_are_forced_at_once(
    files: list[str], ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_forcing, "waiting_bytes", lambda: 3 * FILES * DIRTY_FOR_ONE)
    disk = Disk()
    for _ in range(6):
        force(disk, files)
    assert ways == ["each", "each", "at once"] * 2


def test_a_disk_that_does_not_tell_what_waits_forces_each(
    files: list[str], ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    assert waiting_bytes() == sys.maxsize
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"MemTotal:  1 kB\n")
    assert waiting_bytes() == sys.maxsize
    force(Disk(), files)
    assert ways == ["each"]


def test_what_waits_is_what_is_dirty_and_what_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    told = b"Dirty:              1000 kB\nWriteback:            24 kB\nWritebackTmp:         7 kB\n"
    monkeypatch.setattr(Path, "read_bytes", lambda _: told)
    assert waiting_bytes() == 1 << 20


def test_each_is_really_forced_and_what_is_gone_is_passed_over(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: set[str] = set()
    fsync = os.fsync

    def noted(fd: int) -> None:
        forced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    Path(files[3]).unlink()
    force_each([*files, str(Path(files[0]).parent)])
    assert forced == {*files, str(Path(files[0]).parent)} - {files[3]}
    force_each(files[:1])
    force_each(files[3:4])


def test_a_directory_that_is_missing_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Disk().watched(tmp_path / "missing"):
        pass


def test_only_file_systems_that_keep_the_promise_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, trusted in ((0xEF53, True), (0x58465342, True), (0x6969, False), (0x794C7630, False), (0, False)):
        monkeypatch.setattr(local_forcing, "kind_of_file_system", lambda _, kind=kind: kind)
        assert (disk_below(tmp_path / "not" / "there" / "yet") is not None) is trusted


def test_an_old_linux_that_tells_no_failures_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_forcing, "kind_of_file_system", lambda _: 0xEF53)
    for release, trusted in (((5, 7), False), ((5, 8), True), ((6, 0), True)):
        monkeypatch.setattr(local_forcing, "_release", lambda release=release: release)
        assert (disk_below(tmp_path) is not None) is trusted
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disk_below(tmp_path) is None


def test_the_system_tells_whatkind_of_file_system_it_is(tmp_path: Path) -> None:
    assert local_forcing.kind_of_file_system(Path("/proc")) == 0x9FA0
    assert local_forcing.kind_of_file_system(tmp_path / "missing") == 0
    assert local_forcing._release() > (2, 0)


def test_a_failure_of_the_system_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        local_forcing.sync_file_system(-1)
