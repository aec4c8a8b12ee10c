"""Writes the files of a model where they belong: straight into a store, or into a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from shardflow.flavor.index import INDEX_FILE
from shardflow.flavor.recipe import StoredFile
from shardflow.flavor.weights import Weights
from shardflow.store.entries import sum_of
from shardflow.store.errors import StoreExists, StoreMissing
from shardflow.store.parallel import in_parallel
from shardflow.store.putting import put_sources
from shardflow.store.sources import Source
from shardflow.store.store import Store

_COPIED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What writing the weights came to."""

    files: tuple[StoredFile, ...]
    sent: int | None = None  # bytes that went over the wire; only a store knows
    reused: int | None = None  # bytes that the store had already
    codecs: Mapping[str, int] = field(default_factory=dict)  # chunks by encoding
    looked_at: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by a path in the store: files like that


def into_store(weights: Weights, url: str, base: str | None = None) -> Written:
    """Stream the weights into the store at a URL; nothing is written anywhere else."""
    store, path = store_at(url)
    done = put_sources(store, weights.below(path), path, base=_base_in(store, base))
    paths = (f"{path}/{source.path}" if path else source.path for source in weights.sources)
    stats = list(in_parallel(store.stat, paths))
    found = zip(weights.sources, stats, strict=True)
    files = tuple(StoredFile(source.path, stat.size, stat.digest or "") for source, stat in found)
    _remove_others(store, path, {file.name for file in files} | weights.beside.keys())
    codecs = sum_of(path, stats).codecs
    return Written(files, done.totals.bytes_sent, done.bytes_reused, codecs, done.looked_at)


def into_directory(weights: Weights, directory: Path) -> Written:
    """Write the weights as ordinary files."""
    directory.mkdir(parents=True, exist_ok=True)
    return Written(tuple(_copied(source, directory / source.path) for source in weights.sources))


def write_beside(weights: Weights, directory: Path) -> None:
    """The index, the config and whatever else of the model is small."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in _small_files(weights):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)


def _small_files(weights: Weights) -> Iterable[tuple[str, Path | bytes]]:
    yield from weights.beside.items()
    if weights.index is not None:
        yield INDEX_FILE, weights.index


def store_at(url: str) -> tuple[Store, str]:
    """The store that a URL lies in, made at the artifact root if there is none yet."""
    try:
        return Store.find(url)
    except StoreMissing:
        root, _, _ = url.partition("/models/m-")
        head, _, experiment = root.rpartition("/")
        with suppress(StoreExists):  # another run made it just now
            Store.init(head if experiment.isdigit() else root)
        return Store.find(url)


def _remove_others(store: Store, path: str, kept: set[str]) -> None:
    """What an attempt with another sharding left: a reader would take it for the model."""
    for entry in store.ls(path):
        name = entry.path.rpartition("/")[2]
        if name == INDEX_FILE or (name.endswith(".safetensors") and name not in kept):
            store.rm(entry.path)


def _base_in(store: Store, base: str | None) -> str | None:
    """A base's path in the store, or None if it lies in another."""
    if base is None:
        return None
    home, path = Store.find(base)
    return path if home.config.id == store.config.id else None


def _copied(source: Source, target: Path) -> StoredFile:
    digest, size = blake3(), 0
    memory = memoryview(bytearray(_COPIED_BYTES))
    with source.open() as opened, target.open("xb", buffering=0) as out:
        while count := opened.readinto(memory):
            digest.update(memory[:count])
            _write_all(out.fileno(), memory[:count])
            size += count
        source.check_unchanged(opened, size)
    return StoredFile(target.name, size, digest.hexdigest())


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
