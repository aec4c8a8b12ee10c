"""Checkpoints of torch.distributed.checkpoint: what any number of ranks wrote, read as whole tensors or as parts."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, Self

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from shardflow.flavor.checkpoints import TORCH_FAILURES
from shardflow.flavor.errors import CheckpointUnusable, TensorUnusable
from shardflow.flavor.formats.dcp_metadata import METADATA_FILE, REMEDY, read_metadata
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.state import MemoryState, State, whole
from shardflow.flavor.formats.torch_writing import laid_out, write_failures
from shardflow.flavor.memory import empty_for
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import TensorInfo, is_possible
from shardflow.flavor.torch_types import STORED_TYPES, TORCH_TYPES

_TOLD = 20  # names of what is left out; optimizers may keep thousands

_logger = logging.getLogger("mlflow.shardflow")


@dataclass(frozen=True, slots=True)
class DistributedFormat:
    """A directory with one file or more of each rank, and `.metadata` that says what is where."""

    name: str = "dcp"
    last: str = METADATA_FILE

    def recognises(self, directory: Path, /) -> bool:
        return (directory / METADATA_FILE).is_file()

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        """As one rank: a tensor at a time, those with several names once under each of them.

        What torch writes to one file it keeps until the file is done, so what is not in memory gets many.
        """
        del limits
        in_memory = isinstance(state, MemoryState)
        writer = FileSystemWriter(directory, single_file_per_rank=in_memory, sync_files=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.distributed is (disabled|unavailable)")
            try:
                save_distributed(laid_out(state), storage_writer=writer, planner=_FromState(state), no_dist=True)
            except CheckpointException as error:
                with write_failures(directory):
                    raise next(iter(error.failures.values()))[0] from None  # what happened to the one rank there is

    def open(self, source: Path, /, *, fill_missing: bool = False) -> DistributedCheckpoint:
        del fill_missing  # no part of a file can be left out
        checkpoint = DistributedCheckpoint(source)
        tell_of(source, tuple(checkpoint.left_out))
        return checkpoint


@lru_cache(64)  # once for each: who reads a checkpoint tensor by tensor opens it as often
def tell_of(source: Path, left: tuple[str, ...]) -> None:
    """Warn of what is left out of a checkpoint."""
    if left:
        names = ", ".join(left[:_TOLD]) + (f" and {len(left) - _TOLD} more" if len(left) > _TOLD else "")
        _logger.warning("%s: left out, being no tensors: %s; torch.distributed.checkpoint reads them", source, names)


class DistributedCheckpoint:
    """Tensors put together from the parts that ranks wrote."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._metadata = read_metadata(directory / METADATA_FILE)
        found = self._metadata.state_dict_metadata
        described = {name: entry for name, entry in found.items() if isinstance(entry, TensorStorageMetadata)}
        self.tensors = {name: self._info(name, entry) for name, entry in described.items()}
        self.aliases: dict[str, str] = {}
        self.left_out = [name for name, entry in found.items() if isinstance(entry, BytesStorageMetadata)]
        self._reading = Lock()
        self._last: tuple[MetadataIndex, torch.Tensor] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._last = None  # files are opened when they are read

    def load(self, names: Iterable[str], /) -> dict[str, torch.Tensor]:
        return {name: self.read(name) for name in names}

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        if name not in self.tensors:
            raise CheckpointUnusable(f"{self._directory} has no tensor called {name}")
        info, entry = self.tensors[name], self._metadata.state_dict_metadata[name]
        assert isinstance(entry, TensorStorageMetadata)
        wanted = box if box is not None else whole(info.shape)
        shape = [each.stop - each.start for each in wanted]
        target = empty_for(f"{self._directory}: tensor {name}", shape, TORCH_TYPES[info.dtype])
        filled = 0
        for number, chunk in enumerate(entry.chunks):
            part = _overlap(wanted, chunk.offsets, chunk.sizes)
            if part is not None:
                index = MetadataIndex(name, chunk.offsets, number)
                values = self._part(info, index, chunk.sizes) if box is None else self._kept(info, index, chunk.sizes)
                target[_from(part, [each.start for each in wanted])] = values[_from(part, chunk.offsets)]
                filled += prod(each.stop - each.start for each in part)
        if filled != target.numel():
            raise self._damaged(name, f"{target.numel() - filled} of its elements are in no part")
        return target

    def _kept(self, info: TensorInfo, index: MetadataIndex, sizes: torch.Size) -> torch.Tensor:
        """A part that may have been read just now, for the box before this one."""
        with self._reading:
            if self._last is None or self._last[0] != index:
                self._last = None  # the memory of that one, before there is another
                self._last = index, self._part(info, index, sizes)
            return self._last[1]

    def _part(self, info: TensorInfo, index: MetadataIndex, sizes: torch.Size) -> torch.Tensor:
        place: Any = (self._metadata.storage_data or {}).get(index)
        if place is None:
            raise self._damaged(info.name, f"nothing says where its part at {tuple(index.offset or ())} is")
        if getattr(place, "transform_descriptors", None):
            raise TensorUnusable(
                f"{info.name} is stored through {place.transform_descriptors}, which is not known here"
            )
        file = self._directory / place.relative_path
        if not file.resolve().is_relative_to(self._directory.resolve()):
            raise self._damaged(info.name, f"its part is in {place.relative_path}, which is not in the checkpoint")
        try:
            with file.open("rb") as opened:
                if place.offset + place.length > os.fstat(opened.fileno()).st_size:
                    raise self._damaged(info.name, f"{place.relative_path} is cut short")
                opened.seek(place.offset)
                values = torch.load(io.BytesIO(opened.read(place.length)), map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise self._damaged(info.name, f"{place.relative_path}, which a rank wrote, is gone") from None
        except TORCH_FAILURES as error:
            reason = str(error).partition("\n")[0]
            raise self._damaged(info.name, f"{place.relative_path}: {reason}") from None
        if (
            not isinstance(values, torch.Tensor)
            or values.shape != sizes
            or STORED_TYPES.get(values.dtype) != info.dtype
        ):
            raise self._damaged(info.name, f"{place.relative_path} holds something else in its place")
        made: torch.Tensor = values.detach()
        return made

    def _info(self, name: str, entry: TensorStorageMetadata) -> TensorInfo:
        dtype, shape = entry.properties.dtype, tuple(entry.size)
        if dtype not in STORED_TYPES:
            raise TensorUnusable(f"{name} has elements of type {dtype}, which is not known here")
        if not is_possible(STORED_TYPES[dtype], shape):
            raise self._damaged(name, f"there can be none of the shape {list(shape)}")
        return TensorInfo(name, STORED_TYPES[dtype], shape)

    def _damaged(self, name: str, why: str) -> CheckpointDamaged:
        return CheckpointDamaged(f"{self._directory}: tensor {name} cannot be read: {why}", remedy=REMEDY)


class _FromState(DefaultSavePlanner):
    """Plans with tensors that have no values yet, and reads each when it is its turn."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._source = state

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        return self._source.read(self._source.aliases.get(index.fqn, index.fqn))


def _overlap(wanted: Box, offsets: torch.Size, sizes: torch.Size) -> Box | None:
    """What a box and a part have in common; a scalar, and a part without elements, overlap if anything does."""
    common = tuple(
        slice(max(each.start, at), min(each.stop, at + size))
        for each, at, size in zip(wanted, offsets, sizes, strict=True)
    )
    return common if all(each.start < each.stop for each in common) else None


def _from(box: Box, origin: Sequence[int]) -> Box:
    """The same box, counted from another corner."""
    return tuple(slice(each.start - at, each.stop - at) for each, at in zip(box, origin, strict=True))


FORMAT = DistributedFormat()
