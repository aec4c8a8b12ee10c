"""Which checkpoint formats there are: those of Shardflow, and those that other packages register."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats.errors import FormatUnavailable
from shardflow.flavor.formats.interface import Format

GROUP = "shardflow.checkpoint_format"
DEFAULT = "safetensors"
_HERE = "shardflow.flavor.formats"
_OWN = {
    "safetensors": "safetensors_files:FORMAT",
    "torch": "torch_files:FORMAT",
    "torch-zstd": "torch_files:COMPRESSED",
    "dcp": "dcp:FORMAT",
    "tensorstore": "zarr:PLAIN",
    "tensorstore-t5x": "zarr:T5X",
    "tensorstore-fast": "zarr:FAST",
}


def names() -> list[str]:
    """Every format by name."""
    return [*_OWN, *(name for name in _entry_points() if name not in _OWN)]


@cache
def format_named(name: str) -> Format:
    """A format; its module is imported now, and not before."""
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        found: object = getattr(_imported(f"{_HERE}.{module}", name), attribute)
    elif name in _entry_points():
        found = _entry_points()[name].load()
    else:
        raise FormatUnavailable(f"there is no checkpoint format {name!r}", remedy=f"use one of {', '.join(names())}")
    if not isinstance(found, Format):
        raise FormatUnavailable(f"the checkpoint format {name} has no save and open", remedy="update its package")
    return found


def requirements_of(name: str) -> list[str]:
    """The packages that reading a format takes, beside those of the flavor."""
    return ["tensorstore"] if name.startswith("tensorstore") and name in _OWN else []


def format_of(source: Path) -> Format:
    """The format that a file or directory is in."""
    for found in _by_evidence():
        if found.recognises(source):
            return found
    if not source.exists():
        raise CheckpointUnusable(f"{source} does not exist", remedy="name a checkpoint")
    raise CheckpointUnusable(
        f"{source} is in no checkpoint format that is known here", remedy=f"name it: {', '.join(names())}"
    )


def _by_evidence() -> Iterator[Format]:
    """Formats that know a directory by something no other has come first; what is not installed is left out."""
    for name in ("safetensors", "dcp", "torch", "torch-zstd", *names()):
        try:
            yield format_named(name)
        except FormatUnavailable:
            continue


@cache
def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {found.name: found for found in metadata.entry_points(group=GROUP)}


def _imported(module: str, name: str) -> object:
    try:
        return import_module(module)
    except ImportError as error:
        raise FormatUnavailable(
            f"the checkpoint format {name} needs {error.name}, which is not installed",
            remedy=f"pip install {error.name}",
        ) from None
