"""Lightning: a callback that saves the whole training to the stage's checkpoints, and goes on from the last one.

checkpoints = Checkpoints("checkpoint.json", url="checkpoints")
callback = StageCheckpoint(checkpoints, every_n_train_steps=500, monitor="loss")
trainer = lightning.Trainer(callbacks=[callback], enable_checkpointing=False)
trainer.fit(model, data, ckpt_path=callback.ckpt_path)
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from shardflow.dvc.checkpoints import Checkpoints, CheckpointsMisused

_PREFIX = "shardflow-step-"
_TERMINATED = 128 + signal.SIGTERM
"""The exit code of who ends by that signal; with Lightning's own, which is 0, DVC takes the stage for done."""


class StageCheckpoint(Callback):
    """Saves every so many steps, and at the end; the run counts as complete when `fit` has ended without an error."""

    def __init__(self, checkpoints: Checkpoints, *, every_n_train_steps: int, monitor: str | None = None) -> None:
        if every_n_train_steps < 1:
            raise CheckpointsMisused("checkpoints are saved every so many steps", remedy="pass 1 or more")
        self.checkpoints = checkpoints
        self.every = every_n_train_steps
        self.monitor = monitor
        self._began = False
        self._saved: int | None = None

    @property
    def ckpt_path(self) -> str | None:
        """What `fit` is to be given: the step that an interrupted run goes on from, or None for a new run."""
        step = self.checkpoints.latest()
        return None if step is None else f"{_PREFIX}{step}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del pl_module
        if trainer.world_size > 1:
            raise CheckpointsMisused(
                f"this training has {trainer.world_size} processes, and each would store the state as its own",
                remedy="use torch.distributed.checkpoint for a training of several processes",
            )
        if stage == "fit" and not isinstance(trainer.strategy.checkpoint_io, _StepIO):
            trainer.strategy.checkpoint_io = _StepIO(self.checkpoints, trainer.strategy.checkpoint_io)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self._began = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del pl_module, outputs, batch, batch_idx
        # With accumulated gradients, several batches make a step.
        if trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self._save(trainer)
        if trainer.received_sigterm:
            raise SIGTERMException  # Lightning does not look again, and would end as if all had been done
        self.checkpoints.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del pl_module
        # A run that died after its last step has none left to do when it goes on: `fit` then begins no training, which
        # so has no end. A search for a learning rate tears down as well, but before the training.
        if stage == "fit" and not self._began and trainer.fit_loop.skip and not trainer.received_sigterm:
            self.checkpoints.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        del pl_module
        try:
            if isinstance(exception, SIGTERMException):  # a machine is taken away: Lightning ends between two steps
                exception.code = exception.code or _TERMINATED
                self._save(trainer)
        finally:
            self.checkpoints.stop()

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step and step != self._saved:
            self._saved = step
            trainer.save_checkpoint(f"{_PREFIX}{step}", weights_only=False, storage_options=self._metrics(trainer))

    def _metrics(self, trainer: Trainer) -> dict[str, float]:
        if self.monitor is None:
            return {}
        found = trainer.callback_metrics.get(self.monitor)
        if found is None:
            raise CheckpointsMisused(
                f"the module has not logged {self.monitor!r}",
                remedy=f"log it in training_step: self.log({self.monitor!r}, ...)",
            )
        return {self.monitor: float(found)}


class _StepIO(CheckpointIO):
    """Keeps what is named as a step in the store; everything else as before."""

    def __init__(self, checkpoints: Checkpoints, before: CheckpointIO) -> None:
        self.checkpoints = checkpoints
        self.before = before

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        step = _step_in(path)
        if step is None:
            self.before.save_checkpoint(checkpoint, path, storage_options)
        else:
            self.checkpoints.save(step, checkpoint, storage_options)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        step = _step_in(path)
        if step is None:
            return dict(self.before.load_checkpoint(path, map_location, weights_only))
        return dict(self.checkpoints.load(step))

    def remove_checkpoint(self, path: str | Path) -> None:
        self.before.remove_checkpoint(path)


def _step_in(path: str | Path) -> int | None:
    name = str(path)
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isdecimal() else None
