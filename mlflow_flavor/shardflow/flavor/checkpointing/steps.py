"""The steps of a training run in a store: each a directory that counts only once its last file is there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec
import torch

from shardflow.errors import CorruptData
from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.attempts import Place, begun, is_directory, swept
from shardflow.flavor.checkpointing.errors import StepMissing, StepTaken
from shardflow.flavor.checkpointing.retention import StepInfo
from shardflow.flavor.contents import TensorContent
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.folders import InStore
from shardflow.flavor.plans import plan
from shardflow.flavor.recipe import StoredFile
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.torch_types import shapes_of
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.parallel import in_parallel
from shardflow.store.progress import Progress
from shardflow.store.sources import Source
from shardflow.transport import Cancellation

MARKER_FILE = "checkpoint.json"
TREE_FILE = "tree.json"
MAX_FILE_BYTES = 10_000_000_000
MOST_STEPS = 10**18

_OURS = re.compile(r".+")  # nobody else has files in the directory of a step
_STEP = re.compile(r"step-(0|[1-9]\d{0,17})")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a step complete: the files that it consists of, as they were when all of them were there."""

    format: int = 1
    step: int
    saved: float  # seconds since 1970
    metrics: dict[str, float] = {}
    directory: str = ""  # below the step's own; not empty where the step was stored more than once
    files: tuple[StoredFile, ...]

    def __post_init__(self) -> None:
        if not is_directory(self.directory):
            raise ValueError("directory leads elsewhere")
        if any(not file.name or file.name in (".", "..") or "/" in file.name for file in self.files):
            raise ValueError("a file is not in the directory")


@dataclass(frozen=True, slots=True)
class Step:
    """A step on its way into the store."""

    number: int
    tree: bytes
    tensors: Mapping[str, torch.Tensor]
    metrics: Mapping[str, float]
    replace: bool = False  # a step that is stored under the number


class Steps(InStore):
    """All steps below one URL; nothing is remembered, so that others may add and remove some."""

    def path_of(self, number: int, *inside: str) -> str:
        """The path of a step, or of something in it, in the store."""
        return "/".join(part for part in (self.path, f"step-{number}", *inside) if part)

    def numbers(self) -> list[int]:
        """Every step that has a directory, complete or not."""
        try:
            entries = list(self.store.ls(self.path))
        except PathMissing:
            return []
        found = [_STEP.fullmatch(entry.path.rpartition("/")[2]) for entry in entries if entry.kind == "directory"]
        return sorted(int(match[1]) for match in found if match)

    def complete(self) -> list[StepInfo]:
        """The steps that are stored to their end."""
        infos = in_parallel(self._info, self.numbers())
        return [info for info in infos if info is not None]

    def latest(self) -> int | None:
        """The complete step with the highest number."""
        return next((number for number in reversed(self.numbers()) if self._info(number)), None)

    def marker(self, number: int) -> Marker:
        """What a step consists of; StepMissing if it is not complete."""
        path = self.path_of(number, MARKER_FILE)
        try:
            marker = decoded(files.read_small(self.store, path), Marker)
        except PathMissing:
            raise StepMissing(
                f"step {number} of {self.name} does not exist, or is not complete", remedy="load another, or the latest"
            ) from None
        except Undecodable as error:
            raise CheckpointUnusable(f"{path} cannot be understood: {error}", remedy="load another step") from None
        if marker.format != 1:
            raise CheckpointUnusable(f"{path} is of format {marker.format}, not known here", remedy="update shardflow")
        return marker

    def write(
        self,
        step: Step,
        base: str | None,
        progress: Progress | None = None,
        cancel: Cancellation | None = None,
        held: Iterable[ShardSource] = (),
    ) -> list[ShardSource]:
        """Store a step; what was stored under its number before counts until all of the new one is there.

        Others may save the same step at the same time: then it is wholly that of one of them. `held` are files of the
        base that are in memory still; what is returned are those of this step.
        """
        files.require_store(self.store)
        replace = self._may_replace(step)
        place = self._place(step.number)
        views = {shard.path: shard.view for shard in held}
        try:
            with begun(place) as attempt:
                where = attempt.path
                shards = list(_shards(step, where))
                sources: list[Source] = [*shards, files.text(f"{where}/{TREE_FILE}", step.tree)]
                files.put_against(
                    self.store, sources, where, base, held=views, beside=True, progress=progress, cancel=cancel
                )
                self._commit(self._marker_of(step, attempt.directory, sources), cancel, replace=replace)
        except StepTaken:
            self._sweep(place, step.number)  # what was in vain
            raise
        self._sweep(place, step.number, attempt.directory)
        return shards

    def remove(self, number: int) -> None:
        """Remove a step's names, the one that makes it complete first."""
        place = self._place(number)
        files.forget(self.store, [place.marker_path])
        self._sweep(place, number)

    def remove_unfinished(self, number: int) -> None:
        """Remove what is there of a step that nobody finished, or is about to."""
        try:
            self.marker(number)
        except StepMissing:
            self._sweep(self._place(number), number)
        except (CheckpointUnusable, CorruptData):
            self.remove(number)

    def as_base(self, number: int) -> str | None:
        """The path of what the files of another step are coded against, unless somebody removed it."""
        try:
            return self.path_of(number, self.marker(number).directory)
        except StepMissing:
            return None

    def _info(self, number: int) -> StepInfo | None:
        try:
            return StepInfo(number, self.marker(number).metrics)
        except (StepMissing, CheckpointUnusable, CorruptData):
            return None

    def _may_replace(self, step: Step) -> bool:
        """Whether a marker may be replaced; one that makes no step complete always may."""
        try:
            self.marker(step.number)
        except StepMissing:
            return step.replace
        except (CheckpointUnusable, CorruptData):
            return True
        if not step.replace:
            raise self._taken(step.number)
        return True

    def _commit(self, marker: Marker, cancel: Cancellation | None, *, replace: bool) -> None:
        """From here on the step counts. Of several processes that save it, one comes first, or each in its turn."""
        path = self.path_of(marker.step, MARKER_FILE)
        files.require_store(self.store)
        try:
            files.put_text(self.store, path, msgspec.json.encode(marker), cancel, replace=replace)
        except PathTaken:
            raise self._taken(marker.step) from None

    def _marker_of(self, step: Step, directory: str, sources: Iterable[Source]) -> Marker:
        return Marker(
            step=step.number,
            saved=time.time(),
            metrics=dict(step.metrics),
            directory=directory,
            files=tuple(files.as_stored(self.store, source.path) for source in sources),
        )

    def _taken(self, number: int) -> StepTaken:
        return StepTaken(
            f"step {number} of {self.name} is stored already",
            remedy="go on from the latest step, save under another URL, or pass replace=True",
        )

    def _place(self, number: int) -> Place:
        return Place(self.store, self.path_of(number), MARKER_FILE, _OURS)

    def _sweep(self, place: Place, number: int, settled: str | None = None) -> None:
        def used() -> str | None:
            try:
                return self.marker(number).directory
            except (StepMissing, CheckpointUnusable, CorruptData):
                return None

        swept(place, used, settled)


def state_files(count: int) -> list[str]:
    """The names of so many files of tensors."""
    if count == 1:
        return ["state.safetensors"]
    return [f"state-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _shards(step: Step, where: str) -> Iterator[ShardSource]:
    if not step.tensors:
        return
    made = plan(shapes_of(step.tensors), max_shard_bytes=MAX_FILE_BYTES)
    names = state_files(len(made.shards))
    shards = tuple(replace(shard, file=name) for shard, name in zip(made.shards, names, strict=True))
    contents = {name: TensorContent.of(name, tensor) for name, tensor in step.tensors.items()}
    yield from shard_sources(replace(made, shards=shards), contents, where)
