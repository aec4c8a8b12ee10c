"""What a checkpoint format has to offer; anything that fits may be registered as an entry point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import torch

from shardflow.flavor.formats.state import State
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import TensorInfo


class Checkpoint(Protocol):
    """An open checkpoint: a state whose tensors are on the disk or in a store. Use as a context manager."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def aliases(self) -> Mapping[str, str]: ...
    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor: ...
    def load(self, names: Iterable[str], /) -> dict[str, torch.Tensor]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a format may take while it works."""

    memory: int  # bytes of tensors in flight, beside those that the caller holds


@runtime_checkable
class Format(Protocol):
    """One way to lay tensors out on a disk."""

    @property
    def name(self) -> str: ...

    @property
    def last(self) -> str:
        """The file that completes a checkpoint: readers take a directory without it as unfinished."""

    def recognises(self, directory: Path, /) -> bool:
        """Whether a directory or file is in this format."""

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        """Write into an empty directory."""

    def open(self, source: Path, /, *, fill_missing: bool = False) -> Checkpoint:
        """A checkpoint to read from; `fill_missing` takes chunks that are not there as zeros, where they may be."""
