"""A stage's output that names one checkpoint: a small JSON file with its URL, its step and its digest.

DVC versions this file, the store keeps what it names. So `dvc.lock` holds the exact checkpoint, and going to another
branch and back brings the same one again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from shardflow.errors import CorruptData, ShardflowError
from shardflow.flavor.checkpointing.errors import StepMissing
from shardflow.flavor.checkpointing.steps import MARKER_FILE, Steps
from shardflow.flavor.checkpointing.stored import load_step
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.store.errors import PathMissing
from shardflow.store.store import Store


class PointerUnusable(ShardflowError):
    """A file that should name a checkpoint, and does not."""


class CheckpointReplaced(CorruptData):
    """What is stored at the place that a pointer names is not what it named."""


class Pointer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the file says."""

    url: str
    """Of the run; its steps are below."""
    complete: bool = False
    """The run came to its end."""
    step: int | None = None
    digest: str | None = None
    """BLAKE3 of the list of the step's files, which has the digest of each."""
    metrics: dict[str, float] = {}
    mlflow_run: str | None = None

    @classmethod
    def read(cls, file: str | Path) -> Pointer:
        try:
            return decoded(Path(file).read_bytes(), cls)
        except FileNotFoundError:
            raise PointerUnusable(
                f"{file} is not there", remedy="run the stage that makes it, or 'dvc checkout'"
            ) from None
        except (Undecodable, OSError) as error:
            raise PointerUnusable(
                f"{file} does not name a checkpoint: {error}", remedy="run the stage that makes it again"
            ) from None

    def write(self, file: str | Path) -> None:
        """All of it or nothing: DVC may look at the file at any time."""
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        document = msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as written:
                written.write(document)
            Path(name).chmod(0o644)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def load(self, into: Any = None) -> Any:
        """The state of the checkpoint that is named, and of no other."""

        if self.step is None:
            raise PointerUnusable(f"the run at {self.url} has not stored a checkpoint", remedy="run the stage again")
        steps = Steps(*Store.find(self.url))
        found = digest_of(steps, self.step)
        if found != self.digest:
            raise CheckpointReplaced(
                f"step {self.step} of {self.url} has digest {found}, but {self.digest} is named",
                remedy="run the stage that makes it again",
            )
        return load_step(steps, self.step, into)


def digest_of(steps: Steps, step: int) -> str:
    """What names a stored step exactly: the digest of the file that lists its files with their digests."""

    try:
        return str(steps.store.stat(steps.path_of(step, MARKER_FILE)).digest)
    except PathMissing:
        raise StepMissing(
            f"step {step} of {steps.name} is not in the store any more", remedy="run the stage that makes it again"
        ) from None


def load_checkpoint(pointer: str | Path, into: Any = None) -> Any:
    """The state of the checkpoint that a pointer file names, verified; tensors of `into` are filled where they are."""
    return Pointer.read(pointer).load(into)
