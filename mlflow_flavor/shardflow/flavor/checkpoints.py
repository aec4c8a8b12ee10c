"""Weights that lie on disk already: a safetensors or torch file, or the directory of a Hugging Face model."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shardflow.flavor.contents import Content, FileContent
from shardflow.flavor.directories import TORCH_INDEX_FILE, is_of_training
from shardflow.flavor.errors import CheckpointUnusable, ShardMissing, TrustRequired
from shardflow.flavor.header import Header, read_header
from shardflow.flavor.index import INDEX_FILE, read_index
from shardflow.flavor.tensors import TensorInfo
from shardflow.store.sources import FileSource, file_source

TORCH_ENDINGS = frozenset({".pt", ".pth", ".bin", ".ckpt"})
TORCH_FAILURES = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    pickle.UnpicklingError,
)
"""What torch.load raises for a file that is damaged; it has no error of its own."""
_INSIDE = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A file whose tensors are read where they are."""

    source: FileSource
    header: Header

    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(name, entry.dtype, entry.shape) for name, entry in self.header.entries.items())

    def contents(self, stack: ExitStack) -> Iterator[tuple[str, Content]]:
        """The tensors by name; the file stays open as long as the stack."""
        opened = stack.enter_context(self.source.file.open("rb", buffering=0))
        for name, entry in self.header.entries.items():
            yield name, FileContent(self.source, opened, entry.offset)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a checkpoint: those of an index, one with a usual name, or all of a kind."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointUnusable(f"{path} does not exist", remedy="name a checkpoint file or a model's directory")
    for index in (INDEX_FILE, TORCH_INDEX_FILE):
        if (path / index).is_file():
            return _indexed(path, index)
    for usual in ("model.safetensors", "pytorch_model.bin", "model.pt"):
        if (path / usual).is_file():
            return [path / usual]
    found = sorted(path.glob("*.safetensors"))
    found = found or sorted(file for file in path.iterdir() if file.suffix in TORCH_ENDINGS and file.is_file())
    found = [file for file in found if not is_of_training(file)]
    if not found:
        raise CheckpointUnusable(
            f"{path} has no weights in it", remedy="name a directory with *.safetensors or pytorch_model.bin"
        )
    return found


def open_safetensors(file: Path) -> SafetensorsFile:
    source = file_source(file, file.name)
    with source.open() as opened:
        read_at = source.random_access(opened)
        return SafetensorsFile(source, read_header(read_at, source.size, str(file)))


def load_torch(file: Path, *, trust: bool) -> dict[str, torch.Tensor]:
    """The state dict in a file that torch.save wrote, mapped into memory where the format allows it."""
    try:
        loaded = _loaded(file, trust)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Weights only" not in str(error):
            raise _unreadable(file, error) from None
        raise TrustRequired(
            f"{file} holds more than tensors, and opening it would run code",
            remedy="pass trust=True if you know who wrote it",
        ) from None
    except TORCH_FAILURES as error:
        raise _unreadable(file, error) from None
    return _state_dict_in(loaded, file)


def load_all_torch(files: Iterable[Path], *, trust: bool) -> dict[str, torch.Tensor]:
    """The state dicts of several files as one."""
    found: dict[str, torch.Tensor] = {}
    homes: dict[str, Path] = {}
    for file in files:
        loaded = load_torch(file, trust=trust)
        require_own_names(loaded, file, homes)
        found |= loaded
    return found


def require_own_names(names: Iterable[str], file: Path, homes: dict[str, Path]) -> None:
    """That no tensor of a file is in an earlier one too; `homes` tells the files of all so far."""
    for name in names:
        if name in homes:
            raise CheckpointUnusable(
                f"{name} is in {homes[name]} and in {file}", remedy="log the one of them that is the model"
            )
        homes[name] = file


def _loaded(file: Path, trust: bool) -> object:
    try:
        return torch.load(file, map_location="cpu", mmap=True, weights_only=not trust)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(file, map_location="cpu", weights_only=not trust)  # the form before torch 1.6


def _state_dict_in(loaded: object, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    if isinstance(loaded, Mapping):
        for name in _INSIDE:
            if isinstance(loaded.get(name), Mapping):
                return state_dict_of(loaded[name], str(file))
        return state_dict_of(loaded, str(file))
    raise CheckpointUnusable(f"{file} holds a {type(loaded).__name__}, not a state dict", remedy="save a state dict")


def state_dict_of(found: Mapping[Any, Any], name: str) -> dict[str, torch.Tensor]:
    """A mapping that has tensors and nothing else."""
    odd = [key for key, value in found.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]
    if odd:
        raise CheckpointUnusable(
            f"{name} is no state dict: {odd[0]!r} is {_kind(found[odd[0]])}, not a tensor",
            remedy="log the part of it that holds the weights",
        )
    return dict(found)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _indexed(directory: Path, index: str) -> list[Path]:
    files = sorted(set(read_index((directory / index).read_bytes(), str(directory / index)).files.values()))
    for file in files:
        if not (directory / file).is_file():
            raise ShardMissing(f"{directory / file} does not exist, but {index} names it", remedy="fetch it again")
    return [directory / file for file in files]


def _unreadable(file: Path, error: Exception) -> CheckpointUnusable:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).split("\n")[0]
    return CheckpointUnusable(f"{file} cannot be read as a torch file: {reason}", remedy="save it again")
