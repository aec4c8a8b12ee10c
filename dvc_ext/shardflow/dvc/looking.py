"""What there is in stores, as an fsspec file system tells it: the half of it that changes nothing.

Paths are URLs without their scheme. What is listed are the files that users put; chunks and packs are never seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import compress
from typing import Any, ClassVar

from fsspec.spec import AbstractFileSystem

from shardflow.dvc import described
from shardflow.dvc.described import Info
from shardflow.dvc.failures import as_dvc_tells
from shardflow.dvc.lacking import lacking_in
from shardflow.dvc.places import Places, path_at, stripped, url_of
from shardflow.dvc.presence import present
from shardflow.store.errors import PathMissing, StoreMissing
from shardflow.store.parallel import in_parallel
from shardflow.store.store import Store

_FSSPECS_OWN = frozenset(
    {"asynchronous", "batch_size", "listings_expiry_time", "loop", "max_paths", "use_listings_cache"}
)


class StoredFiles(AbstractFileSystem):  # type: ignore[misc]
    """Files in stores; `root` is a URL at which a first write makes a store where there is none."""

    protocol: ClassVar[str] = "shardflow"
    root_marker = ""

    def __init__(self, root: str = "", **options: Any) -> None:
        own = {name: options.pop(name) for name in _FSSPECS_OWN & options.keys()}
        super().__init__(**own)
        with as_dvc_tells(root):
            place = url_of(stripped(root)) if root else None
        self._places = Places(place, {name: str(value) for name, value in options.items()})

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [stripped(str(each)) for each in path] if isinstance(path, list) else stripped(str(path))

    def unstrip_protocol(self, name: str) -> str:
        return f"{self.protocol}://{stripped(name)}"

    def info(self, path: str, **_: Any) -> Info:
        """Type, size, digest as `etag` and `blake3`, and `md5` where it is known."""
        path = stripped(path)
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            return described.info(store, inside, path)

    def infos(self, paths: Iterable[str]) -> list[Info | Exception]:
        """Many at once; what cannot be told is an exception in its place."""

        def one(path: str) -> Info | Exception:
            try:
                return self.info(path)
            except Exception as error:  # noqa: BLE001  # whoever asked decides
                return error

        return list(in_parallel(one, paths))

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is a file or a directory; a store that cannot be asked is an error, not a no."""
        return self._type(path) != ""

    def isfile(self, path: str) -> bool:
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        return self._type(path) == "directory"

    def files_exist(self, paths: list[str]) -> list[bool]:
        """For each path whether there is a file of that name that lacks nothing, in as few requests as may be."""
        with as_dvc_tells():
            try:
                places = [self._places.to_read(stripped(path)) for path in paths]
            except StoreMissing:
                return [False] * len(paths)
            whole: dict[Store, set[str]] = {}
            for store in {store for store, _ in places}:
                wanted = [inside for each, inside in places if each is store]
                there = [*compress(wanted, present(store, wanted))]
                whole[store] = {*there} - lacking_in(store).among(there)
            return [inside in whole[store] for store, inside in places]

    def lacking(self, paths: Iterable[str]) -> set[str]:
        """Those of some files that a repair could not make whole, and listings of directories that have such files."""
        found = set()
        with as_dvc_tells():
            by_store: dict[Store, dict[str, str]] = defaultdict(dict)
            for path in paths:
                store, inside = self._places.to_read(stripped(path))
                by_store[store][inside] = path
            for store, files in by_store.items():
                found |= {files[inside] for inside in lacking_in(store).among([*files])}
        return found

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is right below a directory; a file lists itself."""
        path = stripped(path)
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            try:
                directories, files = described.names_below(store, inside)
            except PathMissing:
                info = described.info(store, inside, path)
                return [info] if detail else [path]
        names = [path_at(store, directory) for directory in directories]
        found = [path_at(store, file) for file in files]
        if not detail:
            return names + found
        return [described.info_of_directory(name) for name in names] + [*self._told(found).values()]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> list[str] | dict[str, Info]:
        """Every file at any depth; with `prefix`, those whose path below `path` begins so."""
        path, beginning = stripped(path), kwargs.pop("prefix", "")
        if maxdepth is not None or withdirs:
            found = super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
            return found if detail else sorted(found)
        try:
            names = self._found(path, beginning)
        except FileNotFoundError:
            names = []
        if not detail:
            return names
        return self._told(names)

    def _told(self, names: list[str]) -> dict[str, Info]:
        """What is known of listed files, without those that were removed since."""
        told = {}
        for name, info in zip(names, self.infos(names), strict=True):
            if isinstance(info, dict):
                told[name] = info
            elif not isinstance(info, FileNotFoundError):
                raise info
        return told

    def _found(self, path: str, beginning: str) -> list[str]:
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            files = [path_at(store, file) for file in described.files_below(store, inside, beginning)]
            # Of 256 prefixes that DVC asks for most may be empty: that nothing is below a path is known by now.
            is_file = not files and not beginning and inside != "" and present(store, [inside])[0]
        return [path] if is_file else files

    def created(self, path: str) -> datetime:
        """When a file was stored."""
        return datetime.fromtimestamp(self.info(path)["created"], UTC)

    modified = created  # what is stored under a name is replaced as a whole

    def ukey(self, path: str) -> str:
        """The digest of a file: equal where the content is."""
        digest: str = self.info(path)["etag"]
        return digest

    checksum = ukey

    def _type(self, path: str) -> str:
        try:
            found: str = self.info(path)["type"]
        except FileNotFoundError:
            return ""
        return found
