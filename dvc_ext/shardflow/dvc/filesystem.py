"""A store as an fsspec file system: `fsspec.open("shardflow://s3/bucket/models/config.json")`, and what DVC works on.

Paths are URLs without their scheme. What is listed and removed are the files that users put; chunks and packs are
never seen. Options are those of `shardflow -o`.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from shardflow.dvc import described
from shardflow.dvc.copying import give_name
from shardflow.dvc.failures import as_dvc_tells
from shardflow.dvc.lacking import lacking_in
from shardflow.dvc.looking import StoredFiles
from shardflow.dvc.places import stripped
from shardflow.dvc.transferring import Tell, transfers_of
from shardflow.dvc.writing import NewFile
from shardflow.errors import ShardflowError
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.parallel import in_parallel
from shardflow.store.paths import key_of
from shardflow.store.progress import Progress
from shardflow.store.putting import write_sources
from shardflow.store.sources import EmptyDirectory, StreamSource, file_source
from shardflow.store.store import Store
from shardflow.store.wishes import Wishes

READ_BYTES = 1 << 20


class StoreFileSystem(StoredFiles):
    """Reads, writes, copies and removes them; `looking` is what it knows of them."""

    def _open(self, path: str, mode: str = "rb", autocommit: bool = True, **_: Any) -> Any:
        path = stripped(path)
        if mode == "rb":
            return self._opened(path)
        if mode in ("wb", "xb"):
            if mode == "xb" and self.exists(path):
                raise FileExistsError(path)
            wanted = "create" if mode == "xb" else "overwrite"
            return NewFile(lambda file: self.put_file(str(file), path, mode=wanted), autocommit=autocommit)
        raise ValueError(f"cannot open {path} with mode {mode!r}: stored files are read, or written anew")

    def _opened(self, path: str) -> BinaryIO:
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            if described.is_listing(inside):
                return io.BytesIO(lacking_in(store).listing(inside))
            manifest = store.manifest(inside)
            if manifest.inline is not None:
                return io.BytesIO(manifest.inline)
            return io.BufferedReader(store.open(inside), READ_BYTES)

    def put_file(
        self, lpath: str, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: str = "overwrite", **_: Any
    ) -> None:
        """Store a file; what the store has of it is not sent again."""
        local, path = Path(lpath), stripped(rpath)
        if local.is_dir():
            self.makedirs(path, exist_ok=True)
            return
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        with as_dvc_tells(path):
            store, inside = self._places.to_write(path)
            source = file_source(local, inside)
            callback.set_size(source.size)
            if described.is_object(inside):
                transfers_of(store).send(source, _told(callback))
            else:
                try:
                    done = _put(store, local, inside, replace=mode != "create")
                except PathTaken:
                    if mode == "create" and self.isfile(path):  # another made it since the look
                        raise FileExistsError(path) from None
                    raise
                callback.absolute_update(done.bytes_done)

    def put_stream(self, stream: IO[bytes], rpath: str) -> None:
        """Store what a stream gives, without a copy on this machine's disk."""
        path = stripped(rpath)
        with as_dvc_tells(path):
            store, inside = self._places.to_write(path)
            source = cast(BinaryIO, stream)
            if described.is_object(inside):
                transfers_of(store).send(StreamSource.begun(inside, source), lambda _: None)
            else:
                _put(store, source, inside)

    def get_file(
        self, rpath: str, lpath: Any, callback: Callback = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Write a stored file to disk, verified; an interrupted one goes on in the same directory."""
        path = stripped(rpath)
        if outfile is not None or hasattr(lpath, "write"):
            super().get_file(path, lpath, callback=callback, outfile=outfile, **kwargs)
            return
        target = Path(lpath)
        if self.isdir(path):
            target.mkdir(parents=True, exist_ok=True)
            return
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            transfers_of(store).fetch(inside, target, _told(callback))

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Give a file a second name, in the same store; between stores it is read and written."""
        source, target = stripped(path1), stripped(path2)
        with as_dvc_tells(source):
            store, inside = self._places.to_read(source)
            other, named = self._places.to_write(target)
            if other is store:
                give_name(store, inside, named)
                return
        with self._opened(source) as stream:
            self.put_stream(stream, target)

    def reflink(self, path1: str, path2: str) -> None:
        """The second name alone; fails as between file systems where that is not enough, so that DVC copies."""
        source, target = stripped(path1), stripped(path2)
        try:
            store, inside = self._places.to_read(source)
            other, named = self._places.to_write(target)
        except ShardflowError as error:
            raise OSError(errno.EXDEV, str(error), source) from None
        if other is not store:
            raise OSError(errno.EXDEV, "the files lie in different stores", source)
        with as_dvc_tells(source):
            give_name(store, inside, named)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Rename: the second name first."""
        self.copy(path1, path2, **kwargs)
        self.rm(path1, **kwargs)

    def rm_file(self, path: str) -> None:
        """Remove a name; the bytes stay until the store's own gc finds that nothing needs them."""
        if self.rm_files([path]) == 0:
            raise missing(stripped(path))

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` all that is below directories."""
        paths = [path] if isinstance(path, str) else list(path)
        if recursive and maxdepth is None:
            for each in paths:
                self._rm_tree(stripped(each))
            return
        # What exists is meant as it is written, even if `x[1].csv` could be a pattern for another file.
        names = [each for each in paths if not recursive and self.isfile(each)]
        patterns = [each for each in paths if each not in names]
        names += self.expand_path(patterns, recursive=recursive, maxdepth=maxdepth) if patterns else []
        self.rm_files([name for name in names if not recursive or self.isfile(name)])

    def rm_files(self, paths: Iterable[str]) -> int:
        """Remove many names at once; returns how many there were."""

        def removed(path: str) -> bool:
            store, inside = self._places.to_read(path)
            store.config.check("delete", str(store.url))
            return store.transport.delete(key_of(inside))

        with as_dvc_tells():
            return sum(in_parallel(removed, (stripped(path) for path in paths)))

    def _rm_tree(self, path: str) -> None:
        with as_dvc_tells(path):
            store, inside = self._places.to_read(path)
            store.rm(inside, recursive=True)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: ARG002  # parents need no making
        """Make a directory that is there although nothing is in it."""
        path = stripped(path)
        if self.exists(path):
            raise FileExistsError(path)
        self.makedirs(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """As `mkdir`, where there may be one already."""
        path = stripped(path)
        with as_dvc_tells(path):
            store, inside = self._places.to_write(path)
            if not self.exists(path):
                directory = EmptyDirectory(inside)
                write_sources(
                    store.transport, store.config, store.budget, [directory], set(), Wishes(), Progress(), None
                )
            elif not exist_ok:
                raise FileExistsError(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        path = stripped(path)
        if self.ls(path, detail=False):
            raise OSError(errno.ENOTEMPTY, "the directory is not empty", path)
        self._rm_tree(path)


def _put(store: Store, source: Path | BinaryIO, inside: str, *, replace: bool = True) -> Progress:
    """Put a file by itself: one whose name says nothing of its content, or an object of DVC 2."""
    _free(store, inside)
    done = store.put(source, inside, md5=True, replace=replace)
    lacking_in(store).forget(inside)
    return done


def _free(store: Store, inside: str) -> None:
    """Refuse to put a file where a directory is: a store would put it into that."""
    try:
        kind = store.kind(inside)
    except PathMissing:
        return
    if kind == "directory":
        raise PathTaken(f"{store.url.joined(inside)} is a directory", remedy="name a file in it")


def missing(path: str) -> FileNotFoundError:
    """There is no file of that name."""
    return FileNotFoundError(errno.ENOENT, "nothing is stored under that name", path)


def _told(callback: Callback) -> Tell:
    return lambda done: callback.absolute_update(done) if callback is not DEFAULT_CALLBACK else None
