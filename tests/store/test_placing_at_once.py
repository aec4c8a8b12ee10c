"""Several attempts at one file, in one process or in many: each has a partial file of its own, and none loses it."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from shardflow.store.manifest import Manifest
from shardflow.store.placing import PartialFile
from store.partials import CHUNKS, CONTENT, by_name, leftovers, manifest_of, write_row


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "in/model.bin"


def test_two_attempts_at_once_do_not_meet(target: Path) -> None:
    manifest = manifest_of(CHUNKS)
    one, other = PartialFile("m", manifest, target), PartialFile("m", manifest, target.with_name("copy.bin"))
    for row in one.rows:
        write_row(one, row, by_name(CHUNKS))
        if row:
            write_row(other, row, by_name(CHUNKS))
    one.finish()
    write_row(other, 0, by_name(CHUNKS))
    other.finish()
    assert target.read_bytes() == target.with_name("copy.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in target.parent.iterdir()) == ["copy.bin", "model.bin"]


def _hold(target: Path, begun: Event, go_on: Event) -> None:
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    begun.set()
    go_on.wait(30)
    for row in partial.rows:
        write_row(partial, row, by_name(CHUNKS))
    partial.finish()


def test_two_processes_write_one_target_and_either_result_is_whole(target: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun, go_on = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(target, begun, go_on))
    other.start()
    assert begun.wait(30)
    mine = PartialFile("m", manifest_of(CHUNKS), target)
    assert not mine.take_from_earlier(0), "what the other one writes is not ours to use"
    for row in mine.rows:
        write_row(mine, row, by_name(CHUNKS))
    mine.finish()
    assert target.read_bytes() == CONTENT
    go_on.set()
    other.join(30)
    assert other.exitcode == 0
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []


def test_files_that_killed_gets_left_beside_another_get_are_removed(tmp_path: Path) -> None:
    manifest = Manifest(3, b"\1" * 32, inline=b"abc")
    with contextlib.ExitStack() as held:
        first = PartialFile("m", manifest, tmp_path / "one")
        held.callback(first.close)
        second = PartialFile("m", manifest, tmp_path / "two")
        held.callback(second.close)
        abandoned = tmp_path / f".shardflow-{manifest.digest.hex()[:24]}.{'0' * 16}.part"
        abandoned.write_bytes(b"left by a killed one")
        third = PartialFile("m", manifest, tmp_path / "three")
        held.callback(third.close)
        assert not abandoned.exists()
        assert len(list(tmp_path.glob(".shardflow-*.part"))) == 3


@pytest.mark.parametrize("removed", [False, True])
def test_of_many_that_get_a_file_none_loses_its_partial_file_before_it_is_locked(
    target: Path, monkeypatch: pytest.MonkeyPatch, *, removed: bool
) -> None:
    """A third one comes between, which takes what is not locked for left behind, and locks or removes it."""
    manifest = manifest_of(CHUNKS)
    held = PartialFile("m", manifest, target)
    lock, foreign = fcntl.flock, []

    def late(file: object, operation: int) -> None:
        for own in target.parent.glob(".shardflow-*.*.part"):
            monkeypatch.setattr(fcntl, "flock", lock)
            foreign.append(own.open("rb"))
            lock(foreign[0], operation)
            if removed:
                own.unlink()
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    waiting = PartialFile("m", manifest, target)
    assert foreign
    for row in range(len(CHUNKS)):
        write_row(waiting, row, by_name(CHUNKS))
    waiting.finish()
    assert target.read_bytes() == CONTENT
    foreign[0].close()
    held.close()
