"""Checkpoints as safetensors, laid out as Hugging Face does: files on the disk, or streamed into a store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch

from shardflow.flavor.folders import Folder, LocalFolder, OpenFile, StoreFolder
from shardflow.flavor.formats.contents import contents_of
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.replacing import replacement, what_counts
from shardflow.flavor.formats.state import PIECE_BYTES, State
from shardflow.flavor.index import INDEX_FILE, made_index
from shardflow.flavor.plans import Plan, plan
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.slicing import Box
from shardflow.flavor.stored_weights import StoredWeights
from shardflow.flavor.tensors import TensorInfo
from shardflow.store.paths import normal
from shardflow.store.putting import put_sources
from shardflow.store.store import Store

ENDING = ".safetensors"
_MODEL, _WEIGHTS = "MLmodel", "weights"


@dataclass(frozen=True, slots=True)
class SafetensorsFormat:
    """What is read by everybody."""

    name: str = "safetensors"
    last: str = INDEX_FILE

    def recognises(self, directory: Path, /) -> bool:
        if directory.is_file():
            return directory.suffix == ENDING
        return directory.is_dir() and any(directory.glob(f"*{ENDING}"))

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        made = _planned(state)
        for source in _sources(state, made):
            _write(source, directory / source.path, min(PIECE_BYTES, limits.memory))
        if len(made.shards) > 1:
            (directory / INDEX_FILE).write_bytes(made_index(made))

    def open(self, source: Path, /, *, fill_missing: bool = False) -> StoredCheckpoint:
        del fill_missing  # no part of a file can be left out
        if source.is_file():
            return StoredCheckpoint(_Only(LocalFolder(source.parent), source.name))
        return StoredCheckpoint(LocalFolder(source))


class StoredCheckpoint:
    """Safetensors of a directory, or of a directory in a store."""

    def __init__(self, folder: Folder) -> None:
        with ExitStack() as opened:  # closed if a file is missing
            self._weights = opened.enter_context(StoredWeights(folder))
            self.aliases = dict(self._weights.aliases)
            kept = [name for name in self._weights.names() if name not in self.aliases]
            entries = {name: self._weights.entry(name) for name in kept}
            self.tensors = {name: TensorInfo(name, entry.dtype, entry.shape) for name, entry in entries.items()}
            opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._weights.__exit__()

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        return self._weights.read(name, slices=None if box is None else lambda *_: box)

    def load(self, names: Iterable[str], /) -> dict[str, torch.Tensor]:
        return self._weights.read_all(names)


def stream_to_store(
    state: State, url: str, *, replace: bool = False, check: Callable[[StoredCheckpoint], None] | None = None
) -> None:
    """Put a state into a store as safetensors, without a file of it anywhere else; it counts once `check` returns."""
    store, path = Store.find(url)
    made = _planned(state)
    with replacement(store, path, replace=replace) as change:
        sources = list(_sources(state, made, path))
        names = {source.path for source in sources}
        index = normal(f"{path}/{INDEX_FILE}")
        begin = partial(change.begin, names, index, checked=check is not None)
        put_sources(store, sources, path, before_visible=begin)
        if len(made.shards) > 1:
            store.put(io.BytesIO(made_index(made)), index)
            names.add(index)
        change.clear(names)
        if check is not None:
            with StoredCheckpoint(StoreFolder(store, path)) as stored:
                check(stored)
        change.end()


def opened_in_store(url: str) -> StoredCheckpoint | None:
    """What a URL names, if it is safetensors: a directory of them, a model that was logged, or one file."""
    store, path = Store.find(url)
    if path.endswith(ENDING):
        directory, _, name = path.rpartition("/")
        return StoredCheckpoint(_Only(StoreFolder(store, directory), name))
    folder, names = what_counts(StoreFolder(store, path))
    if _MODEL in names:
        folder, names = what_counts(folder.inside(_WEIGHTS))
    return StoredCheckpoint(folder) if any(name.endswith(ENDING) for name in names) else None


class _Only:
    """One file of a directory that may have others."""

    def __init__(self, folder: Folder, file: str) -> None:
        self._folder = folder
        self._file = file

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def at_once(self) -> int:
        return self._folder.at_once

    def names(self) -> set[str]:
        return {self._file}

    def open(self, name: str, /) -> OpenFile:
        return self._folder.open(name)

    def inside(self, name: str, /) -> Folder:
        return self._folder.inside(name)


def _planned(state: State) -> Plan:
    return plan(list(state.tensors.values()), aliases=state.aliases)


def _sources(state: State, made: Plan, directory: str = "") -> Iterator[ShardSource]:
    return shard_sources(made, contents_of(state), directory)


def _write(source: ShardSource, file: Path, memory: int) -> None:
    buffer = memoryview(bytearray(min(memory, max(1, source.length))))
    with file.open("xb", buffering=0) as out:
        for offset in range(0, source.length, len(buffer)):
            part = buffer[: source.length - offset]
            source.read_into(offset, part)
            _write_all(out.fileno(), part)


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


FORMAT = SafetensorsFormat()
