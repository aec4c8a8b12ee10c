"""The versions that are to be moved, oldest first: those in a directory, below a prefix of a bucket, or in a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shardflow.errors import ShardflowError
from shardflow.flavor.moving.originals import InBucket, InStore, OnDisk, Original, Place
from shardflow.store.errors import PathMissing, SourceUnusable, StoreMissing
from shardflow.store.parallel import in_parallel
from shardflow.store.sources import WRITTEN_LAST
from shardflow.store.store import Store
from shardflow.transport import ObjectMissing, StoreURL, connect
from shardflow.transport.url import SCHEME

Order = Literal["auto", "name", "time"]
RECORDS = ".migrated"  # a directory that migration keeps in the store

_BUCKET = re.compile(r"(s3|gs|az)://(.+)", re.DOTALL)
_NUMBERS = re.compile(r"(\d+)")
_BY_READERS = "registered_model_meta"  # which MLflow writes into a model on the disk that is loaded by its name
# What makes a directory a model, and not a directory of models.
_OF_A_MODEL = frozenset(
    {
        "MLmodel",
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    }
)


class NothingToMove(ShardflowError):
    """A source that has no versions."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What MLflow knows a version as."""

    name: str | None = None  # of the registered model
    version: str | None = None
    model_id: str | None = None
    run_id: str | None = None
    description: str | None = None
    tags: Mapping[str, str] | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a model: where it is, and what it is to be called below the target."""

    name: str
    uri: str
    place: Place
    tracked: Tracked | None = None
    missing: str = ""  # why it cannot be moved, if that is known

    def files(self) -> list[Original]:
        """What is to be moved, what readers look for last at the end."""
        found = [each for each in self.place.files() if self.tracked is None or each.name != _BY_READERS]
        return sorted(found, key=lambda each: (each.name.rpartition("/")[2] in WRITTEN_LAST, each.name))


def versions_in(source: str, options: Mapping[str, str] | None = None, order: Order = "auto") -> list[Version]:
    """Each directory and each file right inside a directory, a prefix or a stored directory; or the one that it is."""
    if found := _BUCKET.fullmatch(source):
        listed = _in_bucket(StoreURL.parse(f"{SCHEME}://{found[1]}/{found[2]}"), options)
    elif source.startswith(f"{SCHEME}:"):
        listed = _in_store(source, options)
    else:
        listed = _at_path(source, options)
    if not listed:
        raise NothingToMove(f"{source} has nothing in it", remedy="name a directory or prefix of checkpoints")
    return _oldest_first(listed, order)


def _at_path(source: str, options: Mapping[str, str] | None) -> list[Version]:
    """What a path means: a store and what is in it are not copied as the files that they are made of."""
    there = Path(source).exists()
    try:
        return _in_store(source, options)
    except StoreMissing:
        if not there:
            raise NothingToMove(
                f"{source} does not exist", remedy="name a directory, a bucket (s3://, gs://, az://) or a store"
            ) from None
    except PathMissing:
        if not there:
            raise
    return _on_disk(Path(source))


def _on_disk(path: Path) -> list[Version]:
    if not path.is_dir():
        return [Version(path.name, str(path), OnDisk(path))]
    try:
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be listed: {error.strerror}") from None
    if _OF_A_MODEL & set(names):
        return [Version("", str(path), OnDisk(path))]
    return [Version(name, str(path / name), OnDisk(path / name)) for name in names]


def _in_bucket(url: StoreURL, options: Mapping[str, str] | None) -> list[Version]:
    transport = connect(StoreURL(url.backend, url.bucket), options)
    try:
        directories, objects = transport.list_names(url.prefix)
        if not directories and not objects:
            transport.head(url.prefix)
            return [Version(url.name, str(url), InBucket(transport, url.prefix, single=True))]
    except ObjectMissing:
        return []
    except ValueError as error:  # a key that no store writes
        raise SourceUnusable(
            f"{url} cannot be read: {error}", remedy="copy it to a disk, and move it from there"
        ) from None
    if _OF_A_MODEL & set(objects):
        return [Version("", str(url), InBucket(transport, url.prefix))]
    below = f"{url.prefix}/" if url.prefix else ""
    return [
        Version(name, str(url.joined(name)), InBucket(transport, below + name, single=name in objects))
        for name in [*directories, *objects]
        if not name.startswith(".")
    ]


def _in_store(source: str, options: Mapping[str, str] | None) -> list[Version]:
    store, path = Store.find(source, options)
    if store.kind(path) == "file":
        return [Version(path.rpartition("/")[2], source, InStore(store, path))]
    paths = [entry.path for entry in store.ls(path)]
    names = {inner.rpartition("/")[2]: inner for inner in paths}
    if _OF_A_MODEL & names.keys():
        return [Version("", source, InStore(store, path))]
    return [
        Version(name, str(store.url.joined(inner)), InStore(store, inner))
        for name, inner in names.items()
        if name != RECORDS
    ]


def _oldest_first(versions: list[Version], order: Order) -> list[Version]:
    if order == "name" or (order == "auto" and all(_NUMBERS.search(version.name) for version in versions)):
        return sorted(versions, key=lambda version: _counted(version.name))
    times = dict(zip((version.name for version in versions), in_parallel(_newest, versions, 8), strict=True))
    return sorted(versions, key=lambda version: (times[version.name], _counted(version.name)))


def _counted(name: str) -> list[tuple[int, str]]:
    """`step-1000` comes after `step-200`."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in _NUMBERS.split(name)]


def _newest(version: Version) -> float:
    """When the last of its files was written."""
    try:
        return max((original.modified for original in version.place.files()), default=0.0)
    except (ShardflowError, OSError, PathMissing):
        return 0.0  # it is told when it is its turn
