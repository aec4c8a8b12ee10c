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
from shardflow.flavor.checkpointing.errors import StepMissing
from shardflow.flavor.checkpointing.retention import StepInfo
from shardflow.flavor.contents import TensorContent
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.plans import plan
from shardflow.flavor.recipe import StoredFile
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.torch_types import shapes_of
from shardflow.store.errors import PathMissing
from shardflow.store.parallel import in_parallel
from shardflow.store.progress import Progress
from shardflow.store.putting import put_sources
from shardflow.store.sources import Source
from shardflow.store.store import Store
from shardflow.transport import Cancellation

MARKER_FILE = "checkpoint.json"
TREE_FILE = "tree.json"
MAX_FILE_BYTES = 10_000_000_000
MOST_STEPS = 10**18

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
        if not files.is_directory(self.directory):
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


class Steps:
    """All steps below one URL; nothing is remembered, so that others may add and remove some."""

    def __init__(self, store: Store, path: str) -> None:
        self.store = store
        self.path = path

    @property
    def name(self) -> str:
        return str(self.store.url.joined(self.path))

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
            marker = msgspec.json.decode(files.read_small(self.store, path), type=Marker)
        except PathMissing:
            raise StepMissing(
                f"step {number} of {self.name} does not exist, or is not complete", remedy="load another, or the latest"
            ) from None
        except msgspec.MsgspecError as error:
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

        `held` are files of the base that are in memory still; what is returned are those of this step.
        """
        before = files.below(self.store, self.path_of(step.number))
        inside = self._free_directory(step.number) if before else ""
        where = self.path_of(step.number, inside)
        shards = list(_shards(step, where))
        sources: list[Source] = [*shards, files.text(f"{where}/{TREE_FILE}", step.tree)]
        base = files.still_there(self.store, base)
        views = {shard.path: shard.view for shard in held}
        put_sources(self.store, sources, where, base=base, merges=False, held=views, progress=progress, cancel=cancel)
        marker = Marker(
            step=step.number,
            saved=time.time(),
            metrics=dict(step.metrics),
            directory=inside,
            files=tuple(files.as_stored(self.store, source.path) for source in sources),
        )
        path = self.path_of(step.number, MARKER_FILE)
        files.put_text(self.store, path, msgspec.json.encode(marker), cancel)
        files.forget(self.store, before - {path, *(source.path for source in sources)})
        return shards

    def remove(self, number: int) -> None:
        """Remove a step's names, the one that makes it complete first."""
        paths = files.below(self.store, self.path_of(number))
        files.forget(self.store, sorted(paths, key=lambda path: path != self.path_of(number, MARKER_FILE)))

    def as_base(self, number: int) -> str:
        """The path of what the files of another step are coded against."""
        return self.path_of(number, self.marker(number).directory)

    def _info(self, number: int) -> StepInfo | None:
        try:
            return StepInfo(number, self.marker(number).metrics)
        except (StepMissing, CheckpointUnusable, CorruptData):
            return None

    def _free_directory(self, number: int) -> str:
        """Where the files of a step go so that they do not touch those that make it complete now."""
        try:
            return files.next_directory(self.marker(number).directory)
        except (StepMissing, CheckpointUnusable):
            return ""  # a step that was never finished: what there is of it is used


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
