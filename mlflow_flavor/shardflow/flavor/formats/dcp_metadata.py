"""The metadata of a checkpoint of torch.distributed.checkpoint: which parts its tensors have, and where those are.

They are a pickle. They are opened with an unpickler that knows the classes that describe a checkpoint and no others, so
that reading one runs no code. What these classes say may still be anything, so it is looked at before it is used.
"""

from __future__ import annotations

import io
import pickle
from enum import EnumMeta
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from shardflow.flavor.errors import CheckpointUnusable, TrustRequired
from shardflow.flavor.formats.errors import CheckpointDamaged

METADATA_FILE = ".metadata"
REMEDY = "restore the checkpoint from a copy"
_DESCRIBING = "torch.distributed.checkpoint.metadata"
_KNOWN = {
    (_DESCRIBING, "Metadata"),
    (_DESCRIBING, "TensorStorageMetadata"),
    (_DESCRIBING, "BytesStorageMetadata"),
    (_DESCRIBING, "ChunkStorageMetadata"),
    (_DESCRIBING, "TensorProperties"),
    (_DESCRIBING, "MetadataIndex"),
    (_DESCRIBING, "StorageMeta"),
    (_DESCRIBING, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("collections", "OrderedDict"),
}
_PATHS: dict[str, type[PurePath]] = {
    "PosixPath": PurePosixPath,
    "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,
    "PureWindowsPath": PureWindowsPath,
}
_HOMES_OF_PATHS = {"pathlib", "pathlib._local"}  # the second as Python 3.13 has it, and no other
_FAILURES = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ImportError,
    RuntimeError,
    OverflowError,
    MemoryError,
)


def read_metadata(file: Path) -> Metadata:
    """The metadata in a file, all of whose parts are of the types that they should be."""
    try:
        found = _Unpickler(io.BytesIO(file.read_bytes())).load()
    except OSError as error:
        raise CheckpointUnusable(f"{file} cannot be read: {error.strerror}") from None
    except _FAILURES as error:
        raise CheckpointDamaged(f"{file} cannot be understood: {error}", remedy=REMEDY) from None
    if not isinstance(found, Metadata):
        raise CheckpointDamaged(f"{file} describes no checkpoint", remedy=REMEDY)
    try:
        _require_sense(found)
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointDamaged(f"{file} describes no checkpoint: {error}", remedy=REMEDY) from None
    return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("builtins", "getattr"):
            return _member  # as Python 3.11 up to 3.11.3 pickles members of enumerations
        if module in _HOMES_OF_PATHS and name in _PATHS:
            return _PATHS[name]  # of another system, perhaps
        if (module, name) not in _KNOWN:
            raise TrustRequired(
                f"the metadata of the checkpoint hold {module}.{name}, which describes no tensors",
                remedy="load it with torch.distributed.checkpoint if you know who wrote it",
            )
        return super().find_class(module, name)


def _member(enumeration: Any, name: Any) -> Any:
    if not isinstance(enumeration, EnumMeta):
        raise pickle.UnpicklingError(f"there is something of {enumeration!r} in it, which describes no tensors")
    return enumeration[name]


def _require_sense(found: Metadata) -> None:
    """Raise a ValueError where an entry is not what its type says; what it lacks raises an AttributeError by itself."""
    for name, entry in found.state_dict_metadata.items():
        is_tensor = isinstance(entry, TensorStorageMetadata)
        if not isinstance(name, str) or not (is_tensor or isinstance(entry, BytesStorageMetadata)):
            raise ValueError(f"{name!r:.80} is none of its entries")
        if isinstance(entry, TensorStorageMetadata) and not _is_tensor(entry):
            raise ValueError(f"{name} is no tensor of parts")
    for index, place in (found.storage_data or {}).items():
        if not isinstance(index, MetadataIndex) or not _is_place(place):
            raise ValueError(f"{index!r:.80} is nowhere")


def _is_tensor(entry: TensorStorageMetadata) -> bool:
    boxes = [extents for chunk in entry.chunks for extents in (chunk.offsets, chunk.sizes)]
    fits = all(_are_extents(extents) and len(extents) == len(entry.size) for extents in [entry.size, *boxes])
    return fits and isinstance(entry.properties.dtype, torch.dtype)


def _is_place(place: Any) -> bool:
    if not isinstance(place, _StorageInfo) or not isinstance(place.relative_path, str | PurePath):
        return False
    return _are_extents([place.offset, place.length]) and "\0" not in str(place.relative_path)


def _are_extents(extents: Any) -> bool:
    return isinstance(extents, tuple | list) and all(type(extent) is int and extent >= 0 for extent in extents)
