"""Lightning trains, is interrupted, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.tuner import Tuner

from shardflow.dvc import Checkpoints, Pointer, load_checkpoint
from shardflow.dvc.checkpoints import CheckpointsMisused
from shardflow.dvc.lightning import StageCheckpoint

STEPS = 12


class Interrupted(Exception):
    """What ends a training early here."""


class Line(lightning.LightningModule):
    """A line through points; momentum makes the optimizer's state matter."""

    def __init__(self, dies_at: int | None = None, *, dies_validating: bool = False) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.dies_at = dies_at
        self.dies_validating = dies_validating
        self.done: list[int] = []

    def training_step(self, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        if self.global_step == self.dies_at:
            raise Interrupted
        self.done.append(self.global_step)
        (rows,) = batch
        loss = (self.layer(rows) - rows.sum(1, keepdim=True)).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], index: int) -> None:
        if self.dies_validating:
            raise Interrupted

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Preempted(Line):
    """Another process asks it to end while it does a step."""

    def training_step(self, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        if self.global_step == self.dies_at:
            self.dies_at = None
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, "Lightning listens for it"
            os.kill(os.getpid(), signal.SIGTERM)
        return super().training_step(batch, index)


def loader() -> Any:
    rows = torch.ones(STEPS, 4)  # all alike: Lightning begins an epoch's data anew where it goes on
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=1)


def trainer_with(callback: StageCheckpoint, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )


def fit(dies_at: int | None = None, module_type: type[Line] = Line, **options: Any) -> Line:
    torch.manual_seed(1)
    module = module_type(dies_at)
    callback = StageCheckpoint(Checkpoints(url="store"), **{"every_n_train_steps": 5, "monitor": "loss", **options})
    trainer_with(callback).fit(module, loader(), ckpt_path=callback.ckpt_path)
    return module


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def test_an_interrupted_training_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(dies_at=7)
    assert not Pointer.read("checkpoint.json").complete
    resumed = fit()
    assert resumed.done == list(range(5, STEPS))
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete) == (STEPS, True)
    assert set(pointer.metrics) == {"loss"}

    fresh = fit()
    assert fresh.done == list(range(STEPS))
    assert torch.equal(fresh.layer.weight, resumed.layer.weight)
    stored = load_checkpoint("checkpoint.json")["state_dict"]
    assert torch.equal(stored["layer.weight"], fresh.layer.weight)


@pytest.mark.parametrize("at", [7, STEPS - 1])
def test_a_training_that_is_told_to_end_keeps_its_last_step_and_fails_the_stage(at: int) -> None:
    """As a machine that can be taken away tells it, some time before."""
    with pytest.raises(SystemExit) as ended:
        fit(at, Preempted)
    assert ended.value.code == 128 + signal.SIGTERM
    assert not Pointer.read("checkpoint.json").complete
    resumed = fit()
    assert resumed.done == list(range(at + 1, STEPS))
    assert Pointer.read("checkpoint.json").complete
    assert torch.equal(fit().layer.weight, resumed.layer.weight)


def validated(*, dies: bool = False, **limits: int) -> Line:
    """A training that is validated when its last step is stored already."""
    module = Line(dies_validating=dies)
    callback = StageCheckpoint(Checkpoints(url="store"), every_n_train_steps=STEPS)
    trainer = trainer_with(callback, num_sanity_val_steps=0, **limits)
    trainer.fit(module, loader(), loader(), ckpt_path=callback.ckpt_path)
    return module


@pytest.mark.parametrize("limit", ["max_steps", "max_epochs"])
def test_a_training_that_dies_after_its_last_step_is_complete_when_it_is_run_again(limit: str) -> None:
    limits = {"max_epochs": 1} if limit == "max_epochs" else {"max_epochs": -1, "max_steps": STEPS}
    with pytest.raises(Interrupted):
        validated(dies=True, **limits)
    assert not Pointer.read("checkpoint.json").complete
    assert validated(**limits).done == []
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete) == (STEPS, True)
    assert validated(**limits).done == list(range(STEPS))


def test_a_search_before_the_training_does_not_end_it() -> None:
    """Lightning's tuner breaks out of a `fit` of its own; what follows is the training."""
    module = Line()
    module.lr = 0.01
    callback = StageCheckpoint(Checkpoints(url="store"), every_n_train_steps=5)
    trainer = trainer_with(callback)
    Tuner(trainer).lr_find(module, loader(), num_training=4)
    assert not Pointer.read("checkpoint.json").complete
    trainer.fit(module, loader(), ckpt_path=callback.ckpt_path)
    pointer = Pointer.read("checkpoint.json")
    assert (pointer.step, pointer.complete) == (STEPS, True)


def test_a_metric_that_nobody_logged_is_told() -> None:
    with pytest.raises(CheckpointsMisused, match="has not logged 'accuracy'"):
        fit(monitor="accuracy")


def test_no_steps_between_checkpoints_make_no_sense() -> None:
    with pytest.raises(CheckpointsMisused, match="pass 1 or more"):
        fit(every_n_train_steps=0)
