"""Checkpoints as torch.save writes them, opened with `weights_only=True`; the whole file through zstd if wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import zstandard

from shardflow.flavor.checkpoints import TORCH_ENDINGS, load_all_torch, weight_files
from shardflow.flavor.directories import TORCH_INDEX_FILE
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.state import PIECE_BYTES, MemoryState, State
from shardflow.flavor.formats.torch_writing import write_torch
from shardflow.flavor.memory import empty_for
from shardflow.flavor.slicing import Box

FILE = "model.pt"
COMPRESSED_FILE = "model.pt.zst"
LEVEL = 1


@dataclass(frozen=True, slots=True)
class TorchFormat:
    """One file of the kind that torch.save writes; also what Hugging Face calls pytorch_model.bin."""

    name: str = "torch"
    last: str = FILE

    def recognises(self, directory: Path, /) -> bool:
        if directory.is_file():
            return directory.suffix in TORCH_ENDINGS
        if not directory.is_dir():
            return False
        return any(file.suffix in TORCH_ENDINGS or file.name == TORCH_INDEX_FILE for file in directory.iterdir())

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        write_torch(state, directory / FILE, min(PIECE_BYTES, limits.memory))

    def open(self, source: Path, /, *, fill_missing: bool = False) -> TorchCheckpoint:
        del fill_missing  # no part of a file can be left out
        return TorchCheckpoint(source, _mapped(source), ExitStack())


@dataclass(frozen=True, slots=True)
class CompressedTorchFormat:
    """The same, in one zstd frame with a checksum."""

    name: str = "torch-zstd"
    last: str = COMPRESSED_FILE

    def recognises(self, directory: Path, /) -> bool:
        file = _compressed(directory)
        return file.is_file() and file.name.endswith(".zst")

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        with tempfile.TemporaryDirectory(prefix=".", dir=directory) as made:
            plain = Path(made) / FILE
            write_torch(state, plain, min(PIECE_BYTES, limits.memory))
            compressor = zstandard.ZstdCompressor(level=LEVEL, threads=-1, write_checksum=True)
            with plain.open("rb") as source, (directory / COMPRESSED_FILE).open("xb") as target:
                compressor.copy_stream(source, target, size=plain.stat().st_size)

    def open(self, source: Path, /, *, fill_missing: bool = False) -> TorchCheckpoint:
        del fill_missing
        with ExitStack() as stack:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardflow-"))) / FILE
            _expand(_compressed(source), made)
            return TorchCheckpoint(source, _mapped(made), stack.pop_all())
        raise AssertionError("an exit stack lets errors through")


class TorchCheckpoint:
    """A state dict whose tensors are mapped from the file: what is read is brought in then."""

    def __init__(self, source: Path, mapped: MemoryState, stack: ExitStack) -> None:
        self._source = source
        self._mapped = mapped
        self._stack = stack
        self.tensors = mapped.tensors
        self.aliases = mapped.aliases

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        values = self._mapped.read(name, box)
        made = empty_for(f"{self._source}: tensor {name}", values.shape, values.dtype)
        return made.copy_(values)

    def load(self, names: Iterable[str], /) -> dict[str, torch.Tensor]:
        wanted = {name: self.aliases.get(name, name) for name in names}
        made = {kept: self.read(kept) for kept in dict.fromkeys(wanted.values())}
        return {name: made[kept] for name, kept in wanted.items()}


def _mapped(source: Path) -> MemoryState:
    return MemoryState.of(load_all_torch(weight_files(source), trust=False))


def _compressed(source: Path) -> Path:
    return source / COMPRESSED_FILE if source.is_dir() else source


def _expand(source: Path, target: Path) -> None:
    try:
        with source.open("rb") as compressed, target.open("xb") as plain:
            zstandard.ZstdDecompressor().copy_stream(compressed, plain)
    except OSError as error:
        raise CheckpointUnusable(f"{source} cannot be read: {error.strerror}", remedy="name a checkpoint") from None
    except zstandard.ZstdError as error:
        raise CheckpointDamaged(f"{source} cannot be read: {error}", remedy="restore it from a copy") from None


FORMAT = TorchFormat()
COMPRESSED = CompressedTorchFormat()
