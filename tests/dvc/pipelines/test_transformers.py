"""Hugging Face's Trainer trains, is interrupted, and goes on as if nothing had happened."""

from __future__ import annotations

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
