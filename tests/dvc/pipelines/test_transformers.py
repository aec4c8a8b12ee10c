"""Hugging Face's Trainer trains, is interrupted, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from shardflow.dvc import Checkpoints, Pointer, load_checkpoint
from shardflow.dvc.checkpoints import CheckpointsMisused
from shardflow.dvc.transformers import StageCheckpoint

STEPS = 12


class Interrupted(Exception):
    """What ends a training early here."""


class Line(torch.nn.Module):
    """A line through points, as the trainer wants a model: it returns its loss."""

    def __init__(self, dies_at: int | None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.dies_at = dies_at
        self.calls = 0

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.calls == self.dies_at:
            raise Interrupted
        self.calls += 1
        rows = torch.nn.functional.dropout(rows, 0.2)  # draws random numbers
        return {"loss": (self.layer(rows) - rows.sum(1, keepdim=True)).square().mean()}


class DiesAtTheEnd(transformers.TrainerCallback):
    """Ends a training when its last step is stored already."""

    def on_epoch_end(self, *_: Any, **parts: Any) -> None:
        raise Interrupted


class Preempted(transformers.TrainerCallback):
    """The process is told to end during a step, as on a machine that is taken away."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_begin(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **parts: Any,
    ) -> None:
        if state.global_step == self.at - 1:
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, "somebody listens for it"
            os.kill(os.getpid(), signal.SIGTERM)


def train(directory: Path, dies_at: int | None = None, every: int = 5, *others: transformers.TrainerCallback) -> Line:
    torch.manual_seed(1)
    model = Line(dies_at)
    rows = torch.randn(STEPS, 4, generator=torch.Generator().manual_seed(2))
    data: Any = [{"rows": row} for row in rows]
    options = transformers.TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    callback = StageCheckpoint(Checkpoints(url="store"), every_n_steps=every)
    trainer = transformers.Trainer(model, options, train_dataset=data, callbacks=[callback, *others])
    with callback.resumable() as found:
        trainer.train(resume_from_checkpoint=found)
    return model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def test_an_interrupted_training_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "out", dies_at=7)
    assert not Pointer.read("checkpoint.json").complete
    resumed = train(tmp_path / "out")
    assert resumed.calls == STEPS - 5
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete) == (STEPS, True)
    assert pointer.metrics["loss"] > 0

    fresh = train(tmp_path / "out")
    assert fresh.calls == STEPS
    assert torch.equal(fresh.layer.weight, resumed.layer.weight)
    stored = load_checkpoint("checkpoint.json")["model"]
    assert torch.equal(stored["layer.weight"], fresh.layer.weight)


@pytest.mark.parametrize("at", [7, STEPS])
def test_a_training_that_is_told_to_end_keeps_its_last_step_and_fails_the_stage(tmp_path: Path, at: int) -> None:
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / "out", None, 5, Preempted(at))
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not Pointer.read("checkpoint.json").complete
    resumed = train(tmp_path / "out")
    assert resumed.calls == STEPS - at
    assert Pointer.read("checkpoint.json").complete
    assert torch.equal(train(tmp_path / "out").layer.weight, resumed.layer.weight)


def test_a_worker_that_was_forked_off_meanwhile_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = []
    monkeypatch.setattr(signal, "raise_signal", lambda number: raised.append((number, signal.getsignal(number))))
    with StageCheckpoint(Checkpoints(url="store"), every_n_steps=5).resumable():
        hear: Any = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: 1)
            hear(signal.SIGTERM, None)
    assert raised == [(signal.SIGTERM, signal.SIG_DFL)]


def test_who_is_told_to_end_when_all_steps_are_done_does_not_end_as_if_the_stage_were(tmp_path: Path) -> None:
    callback = StageCheckpoint(Checkpoints(url="store"), every_n_steps=5)
    with pytest.raises(SystemExit), callback.resumable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert not Pointer.read("checkpoint.json").complete


def test_who_listens_for_the_signal_already_goes_on_listening(tmp_path: Path) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("told to end"))
    try:
        assert train(tmp_path / "out", None, 5, Preempted(7)).calls == STEPS
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["told to end"]


def test_a_training_that_dies_after_its_last_step_is_complete_when_it_is_run_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "out", None, STEPS, DiesAtTheEnd())
    assert not Pointer.read("checkpoint.json").complete
    assert train(tmp_path / "out", None, STEPS).calls == 0
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete) == (STEPS, True)


def test_no_steps_between_checkpoints_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(CheckpointsMisused, match="pass 1 or more"):
        train(tmp_path / "out", every=0)
