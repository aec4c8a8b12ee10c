"""Hugging Face's Trainer: a callback that saves the whole training to the stage's checkpoints, and goes on from there.

checkpoints = Checkpoints("checkpoint.json", url="checkpoints")
callback = StageCheckpoint(checkpoints, every_n_steps=500)
trainer = Trainer(model, TrainingArguments(save_strategy="no"), train_dataset=data, callbacks=[callback])
with callback.resumable() as directory:
    trainer.train(resume_from_checkpoint=directory)
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.utils import WEIGHTS_NAME

from shardflow.dvc.checkpoints import Checkpoints, CheckpointsMisused

_RNG_STATE_NAME = "rng_state.pth"
_TERMINATED = 128 + signal.SIGTERM
"""The exit code of who ends by that signal; DVC must not take the stage for done."""


class StageCheckpoint(TrainerCallback):
    """Saves every so many steps, and at the end; the metrics of a step are the last that the trainer has logged."""

    def __init__(self, checkpoints: Checkpoints, *, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise CheckpointsMisused("checkpoints are saved every so many steps", remedy="pass 1 or more")
        self.checkpoints = checkpoints
        self.every = every_n_steps
        self._saved: int | None = None
        self._told_to_end = False
        self._process = 0

    @contextmanager
    def resumable(self) -> Iterator[str | None]:
        """A directory with the last checkpoint, as `train(resume_from_checkpoint=...)` wants it; None for a new run.

        Whoever leaves the block by an error leaves a run that was interrupted; otherwise it is complete. A process that
        is told to end (SIGTERM), as where its machine is taken away, saves the step it is at first.
        """
        with (
            self._listening(),
            self.checkpoints,
            tempfile.TemporaryDirectory(prefix="shardflow-resume-") as directory,
        ):
            if self.checkpoints.latest() is None:
                yield None
            else:
                _write_out(self.checkpoints.load(), Path(directory))
                yield directory
            self._end_if_told()  # inside, for then the run counts as interrupted

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        del args, control
        if self._told_to_end or state.global_step % self.every == 0:
            self._save(state, parts)
        self._end_if_told()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        del state, control, parts
        if args.world_size > 1:
            raise CheckpointsMisused(
                f"this training has {args.world_size} processes, and each would store the state as its own",
                remedy="use torch.distributed.checkpoint for a training of several processes",
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        del args, control
        self._save(state, parts)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Note the signal, and heed it between two steps, where the state is whole; who listens already goes on."""
        heard_already = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        if heard_already or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._process = os.getpid()
        signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._end_if_told()

    def _hear(self, number: int, _: Any) -> None:
        if os.getpid() != self._process:  # a worker, forked off: it ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        self._told_to_end = True

    def _end_if_told(self) -> None:
        if self._told_to_end:
            raise SystemExit(_TERMINATED)

    def _save(self, state: TrainerState, parts: dict[str, Any]) -> None:
        if not state.global_step or state.global_step == self._saved:
            return
        self._saved = state.global_step
        whole = {
            "model": parts["model"].state_dict(),
            "optimizer": parts["optimizer"].state_dict(),
            "scheduler": parts["lr_scheduler"].state_dict(),
            "trainer": _as_text(state),
            "rng": _rng_state(),
        }
        self.checkpoints.save(state.global_step, whole, _metrics(state))


def _metrics(state: TrainerState) -> dict[str, float]:
    """Of each metric what was logged last: losses, evaluations and the summary are logged apart."""
    logged: list[dict[str, Any]] = state.log_history
    found = {name: value for entry in logged for name, value in entry.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in found.items() if name != "step"}


def _as_text(state: TrainerState) -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / TRAINER_STATE_NAME
        state.save_to_json(str(file))
        return file.read_text(encoding="utf-8")


def _rng_state() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}  # noqa: NPY002  # the trainer draws from it
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state()
    return state


def _write_out(whole: dict[str, Any], directory: Path) -> None:
    """The files that the trainer looks for."""
    torch.save(whole["model"], directory / WEIGHTS_NAME)
    torch.save(whole["optimizer"], directory / OPTIMIZER_NAME)
    torch.save(whole["scheduler"], directory / SCHEDULER_NAME)
    torch.save(whole["rng"], directory / _RNG_STATE_NAME)
    (directory / TRAINER_STATE_NAME).write_text(whole["trainer"], encoding="utf-8")
