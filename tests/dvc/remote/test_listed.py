"""What DVC noted of a push or a pull that was interrupted while it was still looking what there is to do."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from dvc_support.commands import DVC, Done, Project
from dvc_support.places import Place
from shardflow.dvc.listed import MARKS

pytestmark = pytest.mark.slow

COUNT = 200
INTERRUPTED = """\
import os, sys
from dvc.cli import main
from dvc_data.index import DataIndex

noted, note = [], DataIndex.__setitem__

def note_or_end(index, key, entry):
    note(index, key, entry)
    if key[0] in ("push", "fetch"):
        noted.append(key)
        if len(noted) == {after}:
            os.kill(os.getpid(), {signal})

DataIndex.__setitem__ = note_or_end
sys.exit(main(["{command}"]))
"""
TWICE = """\
from dvc.repo import Repo
from dvc_data.index import DataIndex

noted, note = [], DataIndex.__setitem__

def note_or_end(index, key, entry):
    note(index, key, entry)
    if key[0] == "push":
        noted.append(key)
        if len(noted) == {after}:
            raise KeyboardInterrupt

DataIndex.__setitem__ = note_or_end
repo = Repo()
try:
    repo.push()
except KeyboardInterrupt:
    print(repo.push(), "pushed, then", repo.push())
"""


@pytest.fixture
def filled(here: Project) -> Project:
    """A project with a directory of many files, not pushed yet."""
    (here.root / "many").mkdir()
    for number in range(COUNT):
        (here.root / "many" / str(number)).write_text(str(number))
    here.must("add", "many")
    here.commit()
    return here


def interrupted(project: Project, command: str, by: signal.Signals, after: int = COUNT // 2) -> Done:
    """A command that is interrupted when it has noted so many files."""
    done = project.run(sys.executable, "-c", INTERRUPTED.format(after=after, signal=int(by), command=command))
    assert done.code != 0, done.all
    return done


def finished(project: Project, command: str) -> str:
    """A command that succeeds, in a process that begins as those of users do; what it said."""
    done = project.run(*DVC, command)
    assert done.code == 0, done.all
    return done.all


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_push_that_was_interrupted_while_it_noted_files_leaves_none_out_the_next_time(
    filled: Project, disk: Place, by: signal.Signals
) -> None:
    interrupted(filled, "push", by)
    assert f"{COUNT + 1} files pushed" in finished(filled, "push")
    assert len(disk.files) == COUNT + 1


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_nor_does_a_fetch(filled: Project, tmp_path: Path, by: signal.Signals) -> None:
    filled.must("push")
    (tmp_path / "elsewhere").mkdir()
    there = filled.clone(tmp_path / "elsewhere" / "there")
    there.must("config", "--local", "core.site_cache_dir", str(tmp_path / "elsewhere" / "site"))
    interrupted(there, "fetch", by)
    assert f"{COUNT + 1} files fetched" in finished(there, "fetch")


def test_nor_does_a_push_in_the_same_process(filled: Project) -> None:
    done = filled.run(sys.executable, "-c", TWICE.format(after=COUNT // 2))
    assert f"{COUNT + 1} pushed, then 0" in done.out, done.all


def test_what_was_noted_whole_is_not_noted_again(filled: Project) -> None:
    """An interruption that comes only then meets nothing that would notice it."""
    finished(filled, "push")
    finished(filled, "push")  # after a push that sent something DVC forgets what it noted
    done = filled.run(sys.executable, "-c", INTERRUPTED.format(after=1, signal=int(signal.SIGKILL), command="push"))
    assert done.code == 0, done.all
    assert "Everything is up to date" in done.all


def test_remotes_of_other_kinds_are_left_as_they_are(filled: Project, tmp_path: Path) -> None:
    filled.must("remote", "add", "plain", str(tmp_path / "plain"))
    filled.must("config", "core.remote", "plain")
    finished(filled, "push")
    finished(filled, "push")
    databases = list((tmp_path / "site").rglob("index/data/db.db*"))
    assert databases
    assert not any(MARKS.encode() in file.read_bytes() for file in databases)
