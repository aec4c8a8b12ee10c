"""Where the bytes of a tensor come from: memory, or a place in a file that exists already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

import torch

from shardflow.flavor.copying import as_memory, copy_bytes
from shardflow.flavor.torch_types import require_values
from shardflow.store.errors import SourceChanged
from shardflow.store.sources import FileSource


class Content(Protocol):
    """The bytes of one tensor, row by row."""

    def read_into(self, offset: int, target: memoryview, /) -> None: ...
    def check_unchanged(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TensorContent:
    """A tensor in memory, of the CPU or a device; a strided one is put in order as it is read."""

    name: str
    tensor: torch.Tensor
    version: int

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor) -> TensorContent:
        require_values(name, tensor)
        plain = tensor.detach().resolve_conj().resolve_neg()
        return cls(name, plain, _version(plain))

    def read_into(self, offset: int, target: memoryview, /) -> None:
        copy_bytes(self.tensor, offset, target)

    def view(self, offset: int, length: int) -> memoryview | None:
        """A run of its bytes in place, if they are in the order and the memory in which they are stored."""
        if self.tensor.device.type != "cpu" or not self.tensor.is_contiguous():
            return None
        return found if len(found := as_memory(self.tensor)[offset : offset + length]) == length else None

    def check_unchanged(self) -> None:
        if _version(self.tensor) != self.version:
            raise SourceChanged(
                f"{self.name} changed while it was being stored", remedy="log the model when no step of training runs"
            )


@dataclass(frozen=True, slots=True)
class FileContent:
    """A tensor in a safetensors file."""

    source: FileSource
    opened: FileIO
    offset: int

    def read_into(self, offset: int, target: memoryview, /) -> None:
        done = 0
        while done < len(target):
            read = os.preadv(self.opened.fileno(), [target[done:]], self.offset + offset + done)
            if not read:
                raise SourceChanged(f"{self.source.name} became shorter while it was being stored")
            done += read

    def check_unchanged(self) -> None:
        self.source.check_unchanged(self.opened, self.source.found.st_size)


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written in place; tensors made in inference mode do not count it."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001  # autograd's own counter; there is no other
