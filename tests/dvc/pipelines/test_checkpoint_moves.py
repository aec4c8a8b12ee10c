"""A training that was interrupted here goes on elsewhere: in another clone, with data and checkpoints from stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dvc_support.commands import Project, project
from shardflow.dvc import Pointer, load_checkpoint
from shardflow.store.store import Store

TRAIN = """\
import os, signal, sys
from pathlib import Path
from shardflow.dvc import Checkpoints

with Checkpoints("checkpoint.json") as checkpoints:
    first = (checkpoints.latest() or 0) + 1
    state = checkpoints.load() if first > 1 else {"sum": 0, "done_in": []}
    for step in range(first, 9):
        state["sum"] += step * int(Path("data.txt").read_text())
        state["done_in"].append(Path.cwd().name)
        checkpoints.save(step, state)
        if Path.cwd().name == "here" and step == 5:
            checkpoints.wait()
            os.kill(os.getpid(), signal.SIGKILL)
"""
PIPELINE = """\
stages:
  train:
    cmd: {python} train.py
    deps: [train.py, data.txt]
    outs:
    - checkpoint.json: {{persist: true}}
"""


def with_training(made: Project) -> Project:
    (made.root / "train.py").write_text(TRAIN)
    (made.root / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
    (made.root / "data.txt").write_text("2")
    made.must("add", "data.txt")
    made.must("push", "data.txt")
    made.commit()
    return made


def test_a_stage_killed_in_one_clone_goes_on_in_another_and_the_first_gets_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDFLOW_STORE", str(Store.init(str(tmp_path / "models")).url))
    here = with_training(project(tmp_path / "here", f"shardflow://file{tmp_path}/data"))
    assert here.dvc("repro").code != 0
    assert not (here.root / "dvc.lock").exists()

    there = here.clone(tmp_path / "somewhere" / "there")
    there.must("pull", "data.txt")
    there.must("repro")
    made = load_checkpoint(there.root / "checkpoint.json")
    assert made == {"sum": 2 * 36, "done_in": ["here"] * 5 + ["there"] * 3}
    there.commit()
    there.must("push")

    here.git("pull", "-q", "--no-edit", str(there.root))
    here.must("pull", "--force")
    assert Pointer.read(here.root / "checkpoint.json") == Pointer.read(there.root / "checkpoint.json")
    assert load_checkpoint(here.root / "checkpoint.json") == made
    assert "up to date" in here.must("repro")
