"""Lightning trains, is interrupted, and goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch

from shardflow.dvc import Checkpoints, Pointer, load_checkpoint
from shardflow.dvc.checkpoints import CheckpointsMisused
from shardflow.dvc.lightning import StageCheckpoint

STEPS = 12


class Interrupted(Exception):
    """What ends a training early here."""


class Line(lightning.LightningModule):
    """A line through points; momentum makes the optimizer's state matter."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.dies_at = dies_at
        self.done: list[int] = []

    def training_step(self, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        if self.global_step == self.dies_at:
            raise Interrupted
        self.done.append(self.global_step)
        (rows,) = batch
        loss = (self.layer(rows) - rows.sum(1, keepdim=True)).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def fit(dies_at: int | None = None, **options: Any) -> Line:
    torch.manual_seed(1)
    module = Line(dies_at)
    rows = torch.ones(STEPS, 4)  # all alike: Lightning begins an epoch's data anew where it goes on
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=1)
    callback = StageCheckpoint(Checkpoints(url="store"), **{"every_n_train_steps": 5, "monitor": "loss", **options})
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=callback.ckpt_path)
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


def test_a_metric_that_nobody_logged_is_told() -> None:
    with pytest.raises(CheckpointsMisused, match="has not logged 'accuracy'"):
        fit(monitor="accuracy")


def test_no_steps_between_checkpoints_make_no_sense() -> None:
    with pytest.raises(CheckpointsMisused, match="pass 1 or more"):
        fit(every_n_train_steps=0)
