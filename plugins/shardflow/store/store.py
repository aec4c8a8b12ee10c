"""A store: put files in, get them out, read them where they are, list and remove them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

from shardflow.delta.adapters import Adapter
from shardflow.local_state import bytes_from
from shardflow.store.cache import ChunkCache
from shardflow.store.config import Settings, StoreConfig
from shardflow.store.entries import Entry, Stat, entry_of, stat_of, sum_of
from shardflow.store.errors import BadPath, PackMissing, PathMissing, PathTaken, WishRefused
from shardflow.store.location import Options, found_store, made_store
from shardflow.store.manifest import Manifest, decode_manifest
from shardflow.store.manifest_at import decoded_at, manifest_at
from shardflow.store.parallel import in_parallel, requesters
from shardflow.store.paths import is_marker, key_of, normal, path_of, prefix_of
from shardflow.store.placing import TargetDirectory, file_target
from shardflow.store.progress import Progress
from shardflow.store.putting import write_sources
from shardflow.store.reader import Reader
from shardflow.store.restore import Restorer
from shardflow.store.sources import (
    WRITTEN_LAST,
    EmptyDirectory,
    Source,
    StreamSource,
    expected,
    file_source,
    is_directory,
    named_place,
    walk,
)
from shardflow.store.wishes import Wishes
from shardflow.transport import ByteBudget, Cancellation, ObjectMissing, StoreURL, Transport, WrongURL

MEMORY_VARIABLE = "SHARDFLOW_MEMORY_BYTES"
DEFAULT_MEMORY = 256 << 20

T = TypeVar("T")

_budget: ByteBudget | None = None


def shared_budget() -> ByteBudget:
    """The bytes that all work of this process may have in flight."""
    global _budget  # noqa: PLW0603  # one budget for the process is the point of it
    if _budget is None:
        _budget = ByteBudget(max(1, bytes_from(MEMORY_VARIABLE, DEFAULT_MEMORY)))
    return _budget


@cache
def reading_budget() -> ByteBudget:
    """What readers may have in flight beside that: a put may read from one, so they must not wait for each other."""
    return ByteBudget(max(1, shared_budget().total // 4))


class Store:
    """One store. Paths are relative to it, with `/` between their parts; `` is all of it."""

    def __init__(self, transport: Transport, config: StoreConfig, budget: ByteBudget | None = None) -> None:
        self.transport = transport
        self.config = config
        self.budget = budget or shared_budget()
        self._cache = ChunkCache() if transport.url.is_far else None

    @classmethod
    def init(cls, url: StoreURL | str, settings: Settings | None = None, options: Options = None) -> Store:
        """Make a store."""
        transport, config = made_store(_parsed(url), settings or Settings(), options)
        return cls(transport, config)

    @classmethod
    def find(cls, url: StoreURL | str, options: Options = None) -> tuple[Store, str]:
        """The store that a URL lies in, and the path it names there."""
        transport, config, path = found_store(_parsed(url), options)
        return cls(transport, config), normal(path)

    @property
    def url(self) -> StoreURL:
        return self.transport.url

    def put(
        self,
        source: str | Path | BinaryIO,
        path: str = "",
        *,
        replace: bool = True,
        deltas: bool = True,
        base: str | None = None,
        adapter: str | Path | None = None,
        md5: bool = False,
        progress: Progress | None = None,
        cancel: Cancellation | None = None,
    ) -> Progress:
        """Store a file, everything below a directory, or a stream, under a path.

        A file goes to the path itself, or into it under its own name if it is a directory or the root. Another file of
        that path is replaced, unless `replace` is False. Run again after any interruption, it sends what is missing.

        A model is coded against what the store has of earlier ones, unless `deltas` is False; against `base` alone, a
        path in this store or its URL, if that is given. `adapter` is a directory that peft saved: what was merged into
        the base. `md5` notes the MD5 of each file as well, for programs that know files by it.
        """
        self.config.check("write", str(self.url))
        path = normal(path)
        wishes = dataclasses.replace(self._wishes(replace, deltas, base, adapter), md5=md5)
        sources, existing = self._sources(source, path)
        progress = progress if progress is not None else Progress()
        progress.files_total, progress.bytes_total = expected(sources)
        write_sources(self.transport, self.config, self.budget, sources, existing, wishes, progress, cancel)
        return progress

    def get(
        self,
        path: str,
        target: str | Path,
        *,
        progress: Progress | None = None,
        cancel: Cancellation | None = None,
    ) -> Progress:
        """Write a stored file, or everything below a stored directory, to disk, every byte verified.

        A file goes to the target itself, or into it if it is a directory. Run again after any interruption, it fetches
        what is missing.
        """
        self.config.check("read", str(self.url))
        path, target = normal(path), Path(target)
        progress = progress if progress is not None else Progress()
        try:
            self._restore(path, target, progress, Cancellation(parent=cancel))
        except PackMissing:
            # It may have been repacked under this get: then its manifests name the new places by now.
            progress.restart()
            self._restore(path, target, progress, Cancellation(parent=cancel))
        return progress

    def open(self, path: str) -> Reader:
        """A stored file as a read-only file object that fetches what is read."""
        self.config.check("read", str(self.url))
        path = normal(path)
        manifest = self.manifest(path)
        return Reader(
            path, self.transport, manifest, reading_budget(), cache=self._cache, reload=lambda: self.manifest(path)
        )

    def kind(self, path: str) -> str:
        """`file` or `directory`; PathMissing if it is neither."""
        path = normal(path)
        if path and self._is_file(path):
            return "file"
        if not path or self._is_directory(path):
            return "directory"
        raise PathMissing(f"{self.url.joined(path)} does not exist", remedy="list what does with 'shardflow ls'")

    def manifest(self, path: str) -> Manifest:
        """What a stored file is made of."""
        path = normal(path)
        try:
            return manifest_at(self.transport, key_of(path), path)
        except ObjectMissing:
            if self._is_directory(path):
                raise PathTaken(f"{self.url.joined(path)} is a directory", remedy="name a file in it") from None
            raise PathMissing(
                f"{self.url.joined(path)} does not exist", remedy="list what does with 'shardflow ls'"
            ) from None

    def manifests(self, path: str = "") -> Iterator[tuple[str, Manifest]]:
        """Every file at or below a path (and every empty directory), read a few ahead, in the order of their keys."""
        yield from self._read_manifests(self._keys_below(path))

    def manifests_unread(self, path: str = "") -> Iterator[tuple[str, memoryview]]:
        """The same as they are stored, for those who know a manifest by its bytes; `decode_manifest` reads one."""
        yield from self._each_manifest(self._keys_below(path), lambda data, _: data)

    def ls(self, path: str = "", *, recursive: bool = False, details: bool = False) -> Iterator[Entry]:
        """Names right below a directory, or all files below it; a file lists itself."""
        path = normal(path)
        if self.kind(path) == "file":
            yield entry_of(path, self.manifest(path))
            return
        directories, files = [], []
        if recursive:
            files = [info.key for info in self.transport.list(prefix_of(path))]
        else:
            prefix = prefix_of(path)
            names, leaves = self.transport.list_names(prefix)
            directories, files = [path_of(prefix + name) for name in names], [prefix + leaf for leaf in leaves]
        plain = [Entry(directory, "directory") for directory in directories]
        empty = [Entry(path_of(key), "directory") for key in files if is_marker(key) and path_of(key) != path]
        keys = [key for key in files if not is_marker(key)]
        if details:
            found = [entry_of(file, manifest) for file, manifest in self._read_manifests(keys)]
        else:
            found = [Entry(path_of(key), "file") for key in keys]
        yield from sorted([*plain, *empty, *found], key=lambda entry: entry.path)

    def stat(self, path: str = "") -> Stat:
        """Figures of a file, or of everything below a directory."""
        path = normal(path)
        if self.kind(path) == "file":
            return stat_of(path, self.manifest(path))
        return sum_of(path, [stat_of(file, manifest) for file, manifest in self.manifests(path)])

    def rm(self, path: str, *, recursive: bool = False) -> int:
        """Remove a name, or every name below a directory; returns how many files.

        Their bytes stay until a garbage collection finds that nothing needs them.
        """
        self.config.check("delete", str(self.url))
        path = normal(path)
        if self.kind(path) == "file":
            return int(self.transport.delete(key_of(path)))
        if not recursive:
            raise PathTaken(f"{self.url.joined(path)} is a directory", remedy="remove all below it with --recursive")
        keys = [info.key for info in self.transport.list(prefix_of(path))]
        # What completes a directory goes first, so that nobody takes the rest for the whole.
        keys.sort(key=_written_last, reverse=True)
        removed = in_parallel(self.transport.delete, keys)
        return sum(gone and not is_marker(key) for key, gone in zip(keys, removed, strict=True))

    def _restore(self, path: str, target: Path, progress: Progress, cancel: Cancellation) -> None:
        with Restorer(self.transport, self.budget, progress, cancel) as restorer:
            if self.kind(path) == "file":
                manifest = self.manifest(path)
                progress.files_total, progress.bytes_total = 1, manifest.size
                restorer.restore(path, manifest, file_target(target, path.rsplit("/", 1)[-1]))
            else:
                self._get_directory(path, target, restorer, progress)
            restorer.finish()

    def _get_directory(self, path: str, target: Path, restorer: Restorer, progress: Progress) -> None:
        infos = list(self.transport.list(prefix_of(path)))
        progress.bytes_total = 0
        progress.files_total = sum(not is_marker(info.key) for info in infos)
        inside = TargetDirectory(target)
        for file, manifest in self._read_manifests(sorted((info.key for info in infos), key=_written_last)):
            relative = file[len(path) :].lstrip("/") if path else file
            progress.bytes_total += manifest.size
            if manifest.kind == "directory":
                inside.directory(relative)
            else:
                restorer.restore(file, manifest, inside.file(relative))
        inside.directory("")

    def _keys_below(self, path: str) -> list[str]:
        return sorted((info.key for info in self.transport.list(prefix_of(path))), key=_written_last)

    def _read_manifests(self, keys: list[str]) -> Iterator[tuple[str, Manifest]]:
        yield from self._each_manifest(keys, decode_manifest)

    def _each_manifest(self, keys: list[str], take: Callable[[memoryview, str], T]) -> Iterator[tuple[str, T]]:
        """What each of these manifests is taken as, by its path."""

        def read(key: str) -> tuple[str, T] | None:
            path = path_of(key)
            try:
                return path, decoded_at(self.transport, key, path, take)
            except ObjectMissing:
                return None  # removed since it was listed

        yield from (found for found in in_parallel(read, keys, requesters(self.url, len(keys))) if found)

    def _wishes(self, replace: bool, deltas: bool, base: str | None, adapter: str | Path | None) -> Wishes:
        """What a put was asked for; what cannot be had is told before anything is read."""
        if (base is not None or adapter is not None) and not (deltas and self.config.settings.deltas.enabled):
            raise WishRefused(
                "a base or an adapter was named for a put without deltas", remedy="leave one or the other out"
            )
        if base is not None:
            base = self._inside(base)
            self.kind(base)
        return Wishes(replace, deltas, base, Adapter(adapter) if adapter is not None else None)

    def _inside(self, place: str) -> str:
        """The path in this store that a path or a URL names."""
        if "://" not in place and not Path(place).is_absolute():
            return normal(place)
        try:
            return normal(StoreURL.parse(place).relative_to(self.url))
        except WrongURL:
            raise BadPath(
                f"{place} is not in the store at {self.url}", remedy="name a base in the store that is put to"
            ) from None

    def _sources(self, source: str | Path | BinaryIO, path: str) -> tuple[list[Source | EmptyDirectory], set[str]]:
        """What to store where, and which of the keys it goes to exist."""
        if not isinstance(source, str | Path):
            path = self._free_file_path(path, "")
            return [StreamSource.begun(path, source)], {key_of(path)}
        file = named_place(source)
        if is_directory(file):
            return list(walk(file, path)), self._below_free_directory(path)
        path = self._free_file_path(path, file.absolute().name)
        return [file_source(file, path)], {key_of(path)}

    def _free_file_path(self, path: str, name: str) -> str:
        if not path or self._is_directory(path):
            if not name:
                where = self.url.joined(path)
                raise BadPath(f"a stream needs a name, and {where} is a directory", remedy=f"put it to {where}/<name>")
            path = normal(f"{path}/{name}" if path else name)
            if self._is_directory(path):
                raise PathTaken(f"{path} is a directory in the store", remedy="remove it first, or use another path")
        self._check_parents(path)
        return path

    def _below_free_directory(self, path: str) -> set[str]:
        if path:
            self._check_parents(path)
            if self._is_file(path):
                raise PathTaken(f"{path} is a file in the store", remedy="remove it first, or use another path")
        return {info.key for info in self.transport.list(prefix_of(path))}

    def _check_parents(self, path: str) -> None:
        parents = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 1)]
        for parent, is_file in zip(parents, in_parallel(self._is_file, parents), strict=True):
            if is_file:
                raise PathTaken(
                    f"{parent} is a file in the store, so nothing can be put below it", remedy="use another path"
                )

    def _is_file(self, path: str) -> bool:
        try:
            self.transport.head(key_of(path))
        except ObjectMissing:
            return False
        return True

    def _is_directory(self, path: str) -> bool:
        directories, files = self.transport.list_names(prefix_of(path))
        return bool(directories or files)


def _written_last(key: str) -> tuple[bool, str]:
    return key.rsplit("/", 1)[-1] in WRITTEN_LAST, key


def _parsed(url: StoreURL | str) -> StoreURL:
    return url if isinstance(url, StoreURL) else StoreURL.parse(url)
