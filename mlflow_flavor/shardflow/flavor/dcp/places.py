"""Where a checkpoint goes, and which earlier one it is coded against."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shardflow.errors import CorruptData
from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.attempts import Place
from shardflow.flavor.dcp.errors import CheckpointMissing
from shardflow.flavor.dcp.layout import METADATA_FILE, Checkpoint, decode_checkpoint
from shardflow.store.errors import PathMissing
from shardflow.store.store import Store

_OURS = re.compile(r"rank-\d+\.safetensors")
_NUMBERED = re.compile(r"(.*?)(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Order:
    """What the coordinator tells a rank about its part of a checkpoint."""

    file: str
    directory: str  # below the checkpoint's own
    base: str | None  # a path in the store


def metadata_path(path: str) -> str:
    return f"{path}/{METADATA_FILE}" if path else METADATA_FILE


def read_checkpoint(store: Store, path: str) -> Checkpoint:
    """What a checkpoint consists of; CheckpointMissing if it was not finished."""
    where = metadata_path(path)
    try:
        return decode_checkpoint(files.read_small(store, where), str(store.url.joined(where)))
    except PathMissing:
        raise CheckpointMissing(
            f"{store.url.joined(path)} is no checkpoint, or was not finished", remedy="load an earlier one"
        ) from None


def place_of(store: Store, path: str) -> Place:
    return Place(store, path, METADATA_FILE, _OURS)


def directory_of(store: Store, path: str) -> str | None:
    """Which directory the files of a finished checkpoint are in."""
    try:
        return read_checkpoint(store, path).directory
    except (CheckpointMissing, CorruptData):
        return None


def as_base(store: Store, path: str | None) -> str | None:
    """The directory with the files of an earlier checkpoint, if it is one."""
    if path is None:
        return None
    directory = directory_of(store, path)
    if directory is None:
        return files.still_there(store, path)  # a model, perhaps
    return f"{path}/{directory}" if directory else path


def is_numbered(name: str) -> bool:
    """Whether a name is that of one checkpoint among several."""
    return _NUMBERED.fullmatch(name) is not None


def one_before(store: Store, path: str) -> str | None:
    """The finished checkpoint beside this one with the next lower number: `step-90` before `step-100`."""
    parent, _, name = path.rpartition("/")
    own = _NUMBERED.fullmatch(name)
    if own is None:
        return None
    try:
        names = [entry.path.rpartition("/")[2] for entry in store.ls(parent) if entry.kind == "directory"]
    except PathMissing:
        return None
    others = [other for other in map(_NUMBERED.fullmatch, names) if other and other[1] == own[1]]
    lower = sorted((int(other[2]), other[0]) for other in others if int(other[2]) < int(own[2]))
    paths = [f"{parent}/{other}" if parent else other for _, other in reversed(lower)]
    return next((other for other in paths if directory_of(store, other) is not None), None)
