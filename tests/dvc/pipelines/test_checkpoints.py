"""Checkpoints of a stage: gone on with after a crash, kept apart from other runs, and named exactly in the end."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from dvc_support.commands import DVC, Project
from shardflow.dvc import Checkpoints, Pointer, load_checkpoint
from shardflow.dvc.attempts import Attempt
from shardflow.dvc.checkpoints import CheckpointsMisused
from shardflow.dvc.pointers import CheckpointReplaced, PointerUnusable
from shardflow.errors import ShardflowError
from shardflow.flavor.checkpointing.errors import SaveFailed, StepMissing
from shardflow.flavor.checkpointing.retention import Retention
from shardflow.store.store import Store
from shardflow.transport import NoSpace


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state(number: int) -> dict[str, Any]:
    return {"weight": torch.full((64,), float(number)), "number": number}


def trained(steps: int, *, dies_at: int | None = None, **arguments: Any) -> list[int]:
    """A training; returns the steps it did itself."""
    done = []
    with Checkpoints(url="store", **arguments) as checkpoints:
        for step in range((checkpoints.latest() or 0) + 1, steps + 1):
            if step == dies_at:
                raise KeyboardInterrupt
            checkpoints.save(step, state(step), {"loss": abs(step - 3.0)})
            done.append(step)
    return done


def test_the_pointer_names_the_last_checkpoint_and_loads_it() -> None:
    assert trained(5) == [1, 2, 3, 4, 5]
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete, pointer.metrics) == (5, True, {"loss": 2.0})
    assert load_checkpoint("checkpoint.json")["number"] == 5
    into = state(0)
    pointer.load(into)
    assert torch.equal(into["weight"], state(5)["weight"])


def test_the_pointer_names_the_best_checkpoint_if_it_is_to() -> None:
    trained(5, keep=Retention(last=1, best=1, metric="loss"), names="best")
    assert load_checkpoint("checkpoint.json")["number"] == 3
    assert Store.find(Pointer.read("checkpoint.json").url)[0].kind("checkpoint/1/step-5") == "directory"


def test_storing_takes_what_the_training_leaves_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from shardflow.flavor.checkpointing.steps import Steps

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found = []
    monkeypatch.setattr(Steps, "write", lambda *_: found.append(niceness()))
    monkeypatch.setattr(Steps, "as_base", lambda *_: "")
    before = niceness()
    with Checkpoints(url="store") as checkpoints:
        checkpoints.save(1, state(1))
    assert found == [max(10, before)]
    assert niceness() == before


def test_a_loss_that_is_no_number_any_more_does_not_lose_the_checkpoint() -> None:
    with Checkpoints(url="store", keep=Retention(last=1, best=1, metric="loss"), names="best") as checkpoints:
        for step, loss in enumerate((2.0, 1.0, float("nan"), float("inf"))):
            checkpoints.save(step, state(step), {"loss": loss})
    assert Pointer.read("checkpoint.json").step == 1
    store, path = Store.find(Pointer.read("checkpoint.json").url)
    assert {entry.path for entry in store.ls(path) if entry.kind == "directory"} == {f"{path}/step-1", f"{path}/step-3"}


def test_a_process_that_dies_at_the_very_end_does_not_train_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Checkpoints, "_tell_mlflow", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            trained(3)
    assert load_checkpoint("checkpoint.json")["number"] == 3
    assert trained(3) == []
    assert trained(3) == [1, 2, 3]


def test_what_ended_a_training_is_told_before_a_checkpoint_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    from shardflow.flavor.checkpointing.steps import Steps

    def full(*_: object) -> None:
        raise NoSpace("no space left on the store's disk", remedy="make room")

    monkeypatch.setattr(Steps, "write", full)
    with pytest.raises(KeyboardInterrupt):
        trained(2, dies_at=2)


def test_an_interrupted_training_goes_on_and_a_finished_one_begins_anew() -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(5, dies_at=4)
    assert not Pointer.read("checkpoint.json").complete
    assert trained(5) == [4, 5]
    assert trained(5) == [1, 2, 3, 4, 5]


def test_a_training_that_is_not_to_resume_begins_anew() -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(5, dies_at=4)
    assert trained(5, resume=False) == [1, 2, 3, 4, 5]


def test_a_later_training_leaves_what_an_earlier_one_named() -> None:
    trained(5, keep=Retention(last=1))
    first = Path("checkpoint.json").read_bytes()
    trained(9, keep=Retention(last=1))
    Path("checkpoint.json").write_bytes(first)
    assert load_checkpoint("checkpoint.json")["number"] == 5


def test_the_mlflow_run_names_the_checkpoint_and_is_found_again_after_a_crash(tracking_uri: str) -> None:
    with pytest.raises(KeyboardInterrupt), mlflow.start_run() as run:
        trained(3, dies_at=2)
    with Checkpoints(url="store") as checkpoints:
        assert checkpoints.interrupted_run() == run.info.run_id
        with mlflow.start_run(run_id=checkpoints.interrupted_run()):
            checkpoints.save(2, state(2))
            checkpoints.close()
    pointer = Pointer.read("checkpoint.json")
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert tags["shardflow.checkpoint"] == pointer.url
    assert (tags["shardflow.checkpoint.step"], tags["shardflow.checkpoint.digest"]) == ("2", pointer.digest)
    assert pointer.mlflow_run == run.info.run_id


def test_a_run_that_could_not_be_noted_is_noted_with_the_next_step(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise NoSpace("no space left on the store's disk", remedy="make room")

    with mlflow.start_run() as run, Checkpoints(url="store") as checkpoints:
        with monkeypatch.context() as broken:
            broken.setattr(Attempt, "note", full)
            with pytest.raises(NoSpace):
                checkpoints.save(1, state(1))
        checkpoints.save(1, state(1))
        assert checkpoints.interrupted_run() == run.info.run_id


def test_a_run_without_checkpoints_names_none() -> None:
    with Checkpoints(url="store"):
        pass
    with pytest.raises(PointerUnusable, match="has not stored a checkpoint"):
        load_checkpoint("checkpoint.json")


def test_a_checkpoint_that_was_replaced_or_removed_is_not_loaded() -> None:
    trained(2)
    store, path = Store.find(Pointer.read("checkpoint.json").url)
    from shardflow.flavor.checkpointing import AsyncCheckpointer

    with AsyncCheckpointer(str(store.url.joined(path))) as others:
        others.save(2, state(7), replace=True)
    with pytest.raises(CheckpointReplaced, match=r"step 2 of .* has digest .*, but .* is named; run the stage"):
        load_checkpoint("checkpoint.json")
    store.rm(path, recursive=True)
    with pytest.raises(StepMissing, match="is not in the store any more"):
        load_checkpoint("checkpoint.json")


NESTING = b'{"url": "store", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"url": 7}', b'{"url": "\xff"}', NESTING, None])
def test_what_is_no_pointer_is_told(text: bytes | None) -> None:
    if text is not None:
        Path("checkpoint.json").write_bytes(text)
    with pytest.raises(PointerUnusable, match="run the stage that makes it"):
        load_checkpoint("checkpoint.json")


def test_one_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(CheckpointsMisused, match="one of 4 processes"):
        Checkpoints(url="store")


def test_best_needs_a_rule_and_a_metric() -> None:
    with pytest.raises(CheckpointsMisused, match="the best step is not kept"):
        Checkpoints(url="store", names="best")
    with pytest.raises(CheckpointsMisused, match="no step was saved with accuracy"):
        trained(2, keep=Retention(best=1, metric="accuracy"), names="best")


def test_a_state_that_cannot_be_stored_fails_the_training_and_leaves_it_unfinished() -> None:
    def odd() -> None:
        with Checkpoints(url="store") as checkpoints:
            checkpoints.save(1, state(1))
            checkpoints.save(2, {"odd": object()})

    with pytest.raises(ShardflowError):
        odd()
    assert not Pointer.read("checkpoint.json").complete
    assert trained(3) == [2, 3]


def test_a_failure_in_the_background_fails_the_training_and_leaves_it_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from shardflow.flavor.checkpointing.steps import Steps

    def full(*_: object) -> None:
        raise NoSpace("no space left on the store's disk", remedy="make room")

    with monkeypatch.context() as broken:
        broken.setattr(Steps, "write", full)
        with pytest.raises(ShardflowError, match="no space left"):
            trained(1)
    assert not Pointer.read("checkpoint.json").complete
    assert trained(2) == [1, 2]


def test_a_failure_that_the_training_catches_leaves_it_unfinished_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """To close it once more, as the end of the block does, does not make the step before the last one."""
    from shardflow.flavor.checkpointing.steps import Steps

    def full(*_: object) -> None:
        raise NoSpace("no space left on the store's disk", remedy="make room")

    with Checkpoints(url="store") as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        with monkeypatch.context() as broken:
            broken.setattr(Steps, "write", full)
            checkpoints.save(2, state(2))
            with pytest.raises(SaveFailed, match="no space left"):
                checkpoints.close()
    assert not Pointer.read("checkpoint.json").complete
    assert trained(3) == [2, 3]


def test_a_training_that_cannot_name_its_run_has_stored_everything_when_it_says_so(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is to go on with it while it stores yet."""
    from shardflow.flavor.checkpointing.steps import Steps

    def full(*_: object, **__: object) -> None:
        raise NoSpace("no space left on the store's disk", remedy="make room")

    def slow(*arguments: Any) -> object:
        time.sleep(0.3)
        return write(*arguments)

    write = Steps.write
    monkeypatch.setattr(Steps, "write", slow)
    checkpoints = Checkpoints(url="store")
    checkpoints.save(1, state(1))
    monkeypatch.setattr(Attempt, "note", full)
    with mlflow.start_run(), pytest.raises(NoSpace):
        checkpoints.close()
    assert checkpoints.steps() == [1]


TRAIN = """\
import os, sys, time
import mlflow, torch
from pathlib import Path
from shardflow.dvc import Checkpoints

mlflow.set_tracking_uri({uri!r})
with Checkpoints("checkpoint.json", url="checkpoints") as checkpoints:
    with mlflow.start_run(run_id=checkpoints.interrupted_run()):
        first = (checkpoints.latest() or 0) + 1
        state = checkpoints.load() if first > 1 else {{"weight": torch.zeros(50_000)}}
        for step in range(first, 9):
            state["weight"] += step
            checkpoints.save(step, state, {{"loss": 1 / step}})
            with open({log!r}, "a") as log: print(step, file=log)
            if first == 1 and step == 5:
                checkpoints.wait()
                Path({log!r} + ".ready").touch()
                time.sleep(100)
        checkpoints.close()
"""
PIPELINE = """\
stages:
  train:
    cmd: {python} train.py
    deps: [train.py, data/train.csv]
    outs:
    - checkpoint.json: {{persist: true}}
"""


def test_a_stage_killed_in_the_middle_goes_on_and_its_lock_and_run_name_the_checkpoint(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    (filled.root / "train.py").write_text(TRAIN.format(uri=tracking_uri, log=str(log)))
    (filled.root / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
    first = subprocess.Popen(
        [*DVC, "repro"], cwd=filled.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not Path(f"{log}.ready").exists():
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (filled.root / "dvc.lock").exists()

    filled.must("repro")
    assert log.read_text().split() == ["1", "2", "3", "4", "5", "6", "7", "8"]
    pointer = Pointer.read(filled.root / "checkpoint.json")
    assert pointer.step == 8
    assert torch.equal(pointer.load()["weight"], torch.full((50_000,), 36.0))
    md5 = hashlib.md5((filled.root / "checkpoint.json").read_bytes(), usedforsecurity=False).hexdigest()
    assert f"md5: {md5}" in (filled.root / "dvc.lock").read_text()
    assert pointer.mlflow_run
    tags = mlflow.get_run(pointer.mlflow_run).data.tags
    assert tags["shardflow.checkpoint.digest"] == pointer.digest
    assert tags["dvc.stage"] == "train"
