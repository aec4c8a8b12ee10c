"""What a checkpoint of many ranks consists of, as it is stored: typed JSON, with nothing to unpickle."""

from __future__ import annotations

from typing import Any

import msgspec

from shardflow.flavor.checkpointing.attempts import is_directory
from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.recipe import StoredFile

METADATA_FILE = "dcp.json"

Extents = tuple[int, ...]


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A box of a tensor, and where it is."""

    offsets: Extents
    sizes: Extents
    file: str
    name: str  # in that file


class Tensor(msgspec.Struct, frozen=True):
    """A tensor, which may be in the files of several ranks."""

    dtype: str  # as torch calls it
    size: Extents
    chunks: tuple[Chunk, ...]
    requires_grad: bool = False


class Value(msgspec.Struct, frozen=True):
    """Something that is no tensor, as a tree; `pickled` where it is a pickle, which only the trusting unpack."""

    tree: Any
    file: str = ""  # that has the tensors which the tree names
    pickled: bool = False


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; written when every rank's file is in the store."""

    format: int = 1
    directory: str = ""  # below the checkpoint's own; not empty where one was stored over another
    files: tuple[StoredFile, ...]
    tensors: dict[str, Tensor]
    values: dict[str, Value]
    planner: Any = None  # what the planner noted, as a tree

    def __post_init__(self) -> None:
        names = {file.name for file in self.files}
        if not is_directory(self.directory) or any(name in ("", ".", "..") or "/" in name for name in names):
            raise ValueError("a file is not in the directory")
        chunks = [chunk for tensor in self.tensors.values() for chunk in tensor.chunks]
        if not {chunk.file for chunk in chunks} | {value.file for value in self.values.values()} <= names | {""}:
            raise ValueError("something is in a file that is not listed")
        if not all(_inside(chunk, tensor) for tensor in self.tensors.values() for chunk in tensor.chunks):
            raise ValueError("a part of a tensor lies outside of it")


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    return msgspec.json.encode(checkpoint)


def decode_checkpoint(data: bytes, name: str) -> Checkpoint:
    try:
        checkpoint = decoded(data, Checkpoint)
    except Undecodable as error:
        raise CheckpointDamaged(f"{name} cannot be understood: {error}", remedy="load another checkpoint") from None
    if checkpoint.format != 1:
        raise CheckpointDamaged(f"{name} is of format {checkpoint.format}, not known here", remedy="update shardflow")
    return checkpoint


def rank_file(rank: int) -> str:
    """The file that a rank writes."""
    return f"rank-{rank:05}.safetensors"


def _inside(chunk: Chunk, tensor: Tensor) -> bool:
    boxes = zip(chunk.offsets, chunk.sizes, tensor.size, strict=False)
    fits = all(offset >= 0 and size >= 0 and offset + size <= extent for offset, size, extent in boxes)
    return len(chunk.offsets) == len(chunk.sizes) == len(tensor.size) and fits
