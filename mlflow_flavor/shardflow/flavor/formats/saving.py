"""Saves a state in any format and loads it again: on the disk under a temporary name first, or in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.folders import LocalFolder
from shardflow.flavor.formats.comparing import require_same
from shardflow.flavor.formats.exchanging import what_counts_at
from shardflow.flavor.formats.interface import Checkpoint, Format, Limits
from shardflow.flavor.formats.places import fetched, in_store, require_room, written_to_directory, written_to_store
from shardflow.flavor.formats.registry import DEFAULT, format_named, format_of
from shardflow.flavor.formats.replacing import what_counts
from shardflow.flavor.formats.safetensors_files import opened_in_store, stream_to_store
from shardflow.flavor.formats.state import MemoryState, State, require_tensors
from shardflow.flavor.slicing import Box, box_of
from shardflow.flavor.stored_weights import Patterns
from shardflow.store.store import shared_budget

Source = str | Path
_MODEL, _WEIGHTS = "MLmodel", "weights"


def save(
    state: State | Mapping[str, torch.Tensor],
    target: str | Path,
    *,
    format: str = DEFAULT,  # noqa: A002  # the word everybody looks for
    replace: bool = False,
    verify: bool = False,
) -> None:
    """Save tensors by name to a directory, or to a `shardflow://` URL.

    The target appears when it is complete; `replace` lets it take the place of another checkpoint. Into a store
    safetensors are streamed; other formats are written to a temporary directory of this machine first. `verify` reads
    what was written, and compares it bit by bit.
    """
    made = MemoryState.of(state) if isinstance(state, Mapping) else state
    require_tensors(made)
    chosen, limits = format_named(format), Limits(shared_budget().total)
    if not in_store(target):
        with written_to_directory(Path(target), replace=replace) as directory:
            _saved(made, chosen, directory, limits, verify=verify)
    elif format == DEFAULT:
        check = (lambda stored: require_same(made, stored, str(target))) if verify else None
        stream_to_store(made, str(target), replace=replace, check=check)
    else:
        with written_to_store(str(target), chosen.last, replace=replace) as directory:
            _saved(made, chosen, directory, limits, verify=verify)


def _saved(made: State, chosen: Format, directory: Path, limits: Limits, *, verify: bool) -> None:
    require_room(directory, chosen.name, sum(info.size for info in made.tensors.values()))
    chosen.save(made, directory, limits)
    if verify:
        with chosen.open(directory) as written:
            require_same(made, written, str(directory))


def load(
    source: Source,
    *,
    format: str | None = None,  # noqa: A002
    tensors: Patterns = None,
    fill_missing: bool = False,
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, all of them or those whose names fit a pattern; names of one tensor share it.

    The format is told from the files, unless it is named. `fill_missing` takes chunks that a tree of zarr arrays does
    not have as zeros, as its writer may have left them out.
    """
    with opened(source, format=format, fill_missing=fill_missing) as checkpoint:
        return checkpoint.load(fitting(checkpoint, tensors, str(source)))


def read(
    source: Source,
    name: str,
    part: slice | Box | None = None,
    *,
    format: str | None = None,  # noqa: A002
) -> torch.Tensor:
    """One tensor, or a part of it: a slice of its first dimension, or one for each of its dimensions."""
    with opened(source, format=format) as checkpoint:
        kept = checkpoint.aliases.get(name, name)
        if kept not in checkpoint.tensors:
            raise CheckpointUnusable(f"{source} has no tensor called {name}")
        if part is None:
            return checkpoint.read(kept)
        return checkpoint.read(kept, box_of(lambda *_: part, name, checkpoint.tensors[kept].shape))


@contextmanager
def opened(
    source: Source,
    *,
    format: str | None = None,  # noqa: A002
    fill_missing: bool = False,
) -> Iterator[Checkpoint]:
    """A checkpoint to read from, in the format that is named, or that its files are in.

    Safetensors are read where they are in a store. Other formats are fetched to a temporary directory first.
    """
    if not in_store(source):
        with open_local(Path(source), format, fill_missing=fill_missing) as checkpoint:
            yield checkpoint
        return
    stored = opened_in_store(str(source)) if format in (None, DEFAULT) else None
    if stored is not None:
        with stored as checkpoint:
            yield checkpoint
        return
    with fetched(str(source)) as place, open_local(place, format, fill_missing=fill_missing) as checkpoint:
        yield checkpoint


def open_local(place: Path, format: str | None = None, *, fill_missing: bool = False) -> Checkpoint:  # noqa: A002
    """A checkpoint on this disk."""
    place = what_counts_at(place)
    if not place.exists():
        raise CheckpointUnusable(f"{place} does not exist", remedy="name a checkpoint")
    if not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0)):
        raise CheckpointUnusable(f"{place} cannot be read: permission denied", remedy="ask for the right to read it")
    place = _whole(place)
    inside = _whole(place / _WEIGHTS) if (place / _MODEL).is_file() else place  # of a model that the flavor saved
    chosen = format_named(format) if format is not None else format_of(inside)
    return chosen.open(inside, fill_missing=fill_missing)


def _whole(place: Path) -> Path:
    """A copy of a directory in a store that was being replaced has the checkpoint in a directory of its own."""
    return what_counts(LocalFolder(place))[0].directory if place.is_dir() else place


def fitting(checkpoint: Checkpoint, patterns: Patterns, source: str) -> list[str]:
    """The names that fit any of the patterns."""
    every = [*checkpoint.tensors, *checkpoint.aliases]
    if patterns is None:
        return every
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    found = [name for name in every if any(fnmatchcase(name, pattern) for pattern in wanted)]
    if not found:
        remedy = f"the names look like {every[0]}" if every else ""
        raise CheckpointUnusable(f"no tensor of {source} is called {' or '.join(wanted)}", remedy=remedy)
    return found
