"""Checkpoints of a DVC stage: saved in the background, found again after a crash, and named in dvc.lock at the end.

    with Checkpoints("checkpoint.json", url="checkpoints", keep=Retention(last=2)) as checkpoints:
        first = 0
        if checkpoints.latest() is not None:
            state = checkpoints.load()
            ...
        for step in range(first, steps):
            ...
            checkpoints.save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, {"loss": loss})

Until the block ends without an error, the run counts as interrupted, and the next run of the stage with the same
command, data and parameters goes on with it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from blake3 import blake3

from shardflow.dvc.attempts import DONE, RUN, Attempt, begun
from shardflow.dvc.pointers import Pointer, digest_of
from shardflow.dvc.projects import Stage, current_stage, project_around
from shardflow.dvc.stages import hashes_of
from shardflow.errors import ShardflowError
from shardflow.flavor.checkpointing.checkpointer import AsyncCheckpointer
from shardflow.flavor.checkpointing.errors import SaveFailed
from shardflow.flavor.checkpointing.files import store_for
from shardflow.flavor.checkpointing.retention import Retention, StepInfo
from shardflow.flavor.checkpointing.steps import Steps
from shardflow.store.errors import PathMissing

STORE_VARIABLE = "SHARDFLOW_STORE"
TAG = "shardflow.checkpoint"
"""The tags of the MLflow run: its URL, and with .step and .digest at the end which one it is."""

_ODD = re.compile(r"[^\w.-]+")
_logger = logging.getLogger(__name__)


class CheckpointsMisused(ShardflowError):
    """Arguments that do not go together, or a place that is missing."""


class Checkpoints:
    """The checkpoints of one training run, named by a pointer file that is the stage's output.

    `url` is a place in a store, or a directory, which becomes a store; relative ones begin at the root of the project.
    Without it, it is `checkpoints` in the store that SHARDFLOW_STORE names. `keep` says which steps stay. With `resume`
    a run that was interrupted is gone on with; without it, this one begins anew. `names` says whether the pointer names
    the `"last"` step in the end, or the `"best"` one by the metric of `keep`.
    """

    def __init__(
        self,
        pointer: str | Path = "checkpoint.json",
        *,
        url: str | None = None,
        keep: Retention | None = None,
        resume: bool = True,
        names: Literal["last", "best"] = "last",
    ) -> None:
        if names == "best" and not (keep and keep.best):
            raise CheckpointsMisused(
                "the best step is not kept", remedy="pass keep=Retention(best=1, metric='loss') with names='best'"
            )
        _require_one_process()
        self._pointer = Path(pointer).absolute()
        self._keep, self._names = keep, names
        self._attempt = _attempt(url, self._pointer, resume)
        self._checkpointer = AsyncCheckpointer(self._attempt.url, keep=keep)
        self._run: str | None = None
        self._closed = False
        self._write(Pointer(url=self.url, mlflow_run=self.interrupted_run()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(SaveFailed):  # it was logged; what ended the training comes first
            self.stop()

    @property
    def url(self) -> str:
        """Where the steps of this run are."""
        return self._attempt.url

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Copy a state, and store it in the background; a step that is there already is stored again."""
        self._note_run()
        self._checkpointer.save(step, state, metrics, replace=True)

    def latest(self) -> int | None:
        """The last step that is stored to its end: where an interrupted run goes on; none for a new run."""
        return self._checkpointer.latest()

    def steps(self) -> list[int]:
        return self._checkpointer.steps()

    def load(self, step: int | None = None, into: Any = None) -> Any:
        """The state of a step, by default of the last one; tensors of `into` are filled where they are."""
        return self._checkpointer.load(step, into)

    def interrupted_run(self) -> str | None:
        """The id of the MLflow run that the interrupted attempt logged to, for `mlflow.start_run(run_id=...)`."""
        try:
            return self._attempt.noted(RUN).decode()
        except PathMissing:
            return None

    def wait(self) -> None:
        """Wait until everything saved so far is stored."""
        self._checkpointer.wait()

    def close(self) -> None:
        """The training has ended: wait for what is being stored, and name the checkpoint."""
        if self._closed:
            return
        self._closed = True  # also where this fails: another call must not name an earlier step as the last
        try:
            self._checkpointer.close()
            self._note_run()
            pointer = self._named()
            self._write(pointer)
            self._tell_mlflow(pointer)
            # Last: a process that dies before this ends here again at once, instead of training anew.
            self._attempt.note(DONE, msgspec.json.encode(pointer))
        finally:
            self._attempt.leave()

    def stop(self) -> None:
        """The training was interrupted: what was saved is stored, and the next run goes on from there."""
        if self._closed:
            return
        self._closed = True
        try:
            self._checkpointer.close()
        finally:
            self._attempt.leave()

    def _named(self) -> Pointer:
        steps = Steps(self._attempt.store, self._attempt.path)
        found = {info.step: info for info in steps.complete()}
        if not found:
            return Pointer(url=self.url, complete=True, mlflow_run=self._run)
        info = found[_best(list(found.values()), self._keep) if self._names == "best" else max(found)]
        return Pointer(
            url=self.url,
            complete=True,
            step=info.step,
            digest=digest_of(steps, info.step),
            metrics=dict(info.metrics),
            mlflow_run=self._run,
        )

    def _write(self, pointer: Pointer) -> None:
        pointer.write(self._pointer)

    def _note_run(self) -> None:
        """Once, when a run of MLflow is there: an interrupted training can then go on in the same one."""
        run = _active_run()
        if self._run is None and run is not None:
            found = str(run.info.run_id)
            self._attempt.note(RUN, found.encode())
            self._run = found

    def _tell_mlflow(self, pointer: Pointer) -> None:
        """The run may have ended by now, and is told all the same."""
        if self._run is None:
            return
        mlflow = sys.modules["mlflow"]
        tags = {TAG: pointer.url, f"{TAG}.step": pointer.step, f"{TAG}.digest": pointer.digest}
        try:
            client = mlflow.MlflowClient()
            for name, value in tags.items():
                if value is not None:
                    client.set_tag(self._run, name, str(value))
        except mlflow.exceptions.MlflowException as error:
            # The training may have taken days, and its checkpoint is named in the pointer.
            _logger.warning("The MLflow run does not name %s: %s", self._pointer.name, error)


def _best(infos: list[StepInfo], keep: Retention | None) -> int:
    if keep is None:
        raise CheckpointsMisused("nothing says which step is best")
    having = [info for info in infos if info.metrics.get(keep.metric) is not None]
    if not having:
        raise CheckpointsMisused(f"no step was saved with {keep.metric}", remedy=f"pass save() {keep.metric!r}")
    sign = 1 if keep.mode == "min" else -1
    return min(having, key=lambda info: (sign * info.metrics[keep.metric], -info.step)).step


def _attempt(url: str | None, pointer: Path, resume: bool) -> Attempt:
    stage, project = current_stage(), project_around()
    root = stage.root if stage else project.root if project else Path.cwd()
    # DVC runs some experiments in a copy of the project, which it removes: checkpoints go to the project itself.
    store, path = store_for(_place(url, root))
    below = _directory(stage, Path(os.path.relpath(pointer, project.root if project else root)))
    return begun(store, f"{path}/{below}" if path else below, resume=resume)


def _directory(stage: Stage | None, pointer: Path) -> str:
    """Its own for each pointer of each stage with its inputs, told apart by the digest."""
    readable = _ODD.sub("-", pointer.stem)
    if stage and stage.name:
        made = hashes_of(stage)
        return f"{_ODD.sub('-', made.name)}-{readable}-{_digest(made.stage, pointer.as_posix(), made.identity)}"
    if pointer.as_posix() == f"{readable}.json":
        return readable
    return f"{readable}-{_digest(pointer.as_posix())}"


def _digest(*parts: str) -> str:
    return blake3(msgspec.json.encode(parts)).hexdigest()[:16]


def _place(url: str | None, root: Path) -> str:
    if url is None:
        store = os.environ.get(STORE_VARIABLE)
        if not store:
            raise CheckpointsMisused(
                "nothing says where checkpoints go", remedy=f"pass url=, or set {STORE_VARIABLE} to the URL of a store"
            )
        url = f"{store.rstrip('/')}/checkpoints"
    return url if "://" in url else str((root / url).resolve())


def _active_run() -> Any:
    mlflow = sys.modules.get("mlflow")
    return mlflow.active_run() if mlflow is not None else None


def _require_one_process() -> None:
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise CheckpointsMisused(
            f"this is one of {os.environ['WORLD_SIZE']} processes, and each would store the state as its own",
            remedy="use torch.distributed.checkpoint for a training of several processes",
        )
