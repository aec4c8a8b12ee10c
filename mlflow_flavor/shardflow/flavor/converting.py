"""Converts a checkpoint from one format into another, piece by piece, and compares the two at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats import format_named, opened, save
from shardflow.flavor.formats.interface import Checkpoint
from shardflow.flavor.formats.places import in_store
from shardflow.flavor.formats.state import State
from shardflow.flavor.slicing import Box


@dataclass(slots=True)
class ConversionProgress:
    """How far a conversion is; what is read twice, to be compared, counts once more."""

    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was converted."""

    source: str
    target: str
    format: str
    tensors: int
    bytes: int
    left_out: list[str] = field(default_factory=list)  # entries that are no tensors, such as a count of steps

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def convert(
    source: str | Path,
    target: str | Path,
    to: str,
    *,
    format: str | None = None,  # noqa: A002  # the word everybody looks for
    replace: bool = False,
    fill_missing: bool = False,
    progress: ConversionProgress | None = None,
) -> Conversion:
    """Write the tensors of a checkpoint in the format `to`; what was written is read back and compared bit by bit.

    `format` is that of the source, told from its files unless it is named. What is written counts when
    all that is done. A few pieces of a tensor are in memory at a time, as far as the formats allow.
    """
    progress = progress or ConversionProgress()
    format_named(to)  # before anything is opened
    _require_two(source, target)
    with opened(source, format=format, fill_missing=fill_missing) as checkpoint:
        size = sum(info.size for info in checkpoint.tensors.values())
        progress.bytes_total = 2 * size
        save(_Followed(checkpoint, progress), target, format=to, replace=replace, verify=True)
        left_out = list(getattr(checkpoint, "left_out", ()))
        return Conversion(str(source), str(target), to, len(checkpoint.tensors), size, left_out)


class _Followed:
    """A checkpoint that notes what has been read of it."""

    def __init__(self, checkpoint: Checkpoint, progress: ConversionProgress) -> None:
        self._checkpoint: State = checkpoint
        self._progress = progress
        self.tensors = checkpoint.tensors
        self.aliases = checkpoint.aliases

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        values = self._checkpoint.read(name, box)
        self._progress.bytes_done += values.nbytes
        return values


def _require_two(source: str | Path, target: str | Path) -> None:
    """A store changes its files in place, so that a source that is the target would be gone halfway."""
    one, other = str(source).rstrip("/"), str(target).rstrip("/")
    inside = one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
    if in_store(source) and inside:
        raise CheckpointUnusable(f"{source} cannot be converted into itself", remedy="name another target")
