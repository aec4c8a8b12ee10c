"""Lets a checkpoint in a store take the place of another: a kill at any moment leaves the old one or the new one.

Files of a store become visible one by one. Before the first of the new ones does, the old ones get a second name each,
in a directory beside them, and a note says that those count. Removing the note is the one step by which all of the new
ones count instead. A name costs little: the bytes of its file stay where they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, Self, TypeVar

from shardflow.errors import CorruptData, ShardflowError
from shardflow.flavor.errors import CheckpointUnusable, ModelMissing
from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.store.errors import FormatUnknown, PathMissing
from shardflow.store.manifest import decode_manifest
from shardflow.store.manifest_at import decoded_at
from shardflow.store.parallel import in_parallel, requesters
from shardflow.store.paths import key_of
from shardflow.store.store import Store
from shardflow.transport import Transport


class _Folder(Protocol):
    """A directory in a store or on the disk."""

    @property
    def name(self) -> str: ...
    def names(self) -> set[str]: ...
    def inside(self, name: str, /) -> Self: ...


AnyFolder = TypeVar("AnyFolder", bound=_Folder)
NOTE, KEPT = ".replacing", ".before"
_TEXT = b"The checkpoint of this directory is being replaced. What counts until then is in .before.\n"


class Replacement:
    """New files on their way to a path, and what was there until now."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path
        self._begun = False
        there = files_at(store, path)
        self._second_names = {name for name in there if name.startswith(f"{self._at(KEPT)}/")}
        self._noted = self._at(NOTE) in there
        self._old = there - self._second_names - {self._at(NOTE)}

    def begin(self, new: set[str], completing: str, *, checked: bool) -> None:
        """All that is new has arrived, and the first of it is about to be seen.

        One file takes the place of another at once, unless it is to be checked before it counts.
        """
        self._begun = True
        if checked or self._noted or len(new) > 1 or self._old - new:
            self._keep_old()
            # Whoever copies the directory as it is now must not take files of both for a whole checkpoint.
            _remove(self._store, self._old & {completing})

    def clear(self, new: set[str]) -> None:
        """All that is new is there; what is left of the old one goes."""
        _remove(self._store, self._old - new)

    def end(self) -> None:
        """What is new counts from now on."""
        _remove(self._store, {self._at(NOTE)} if self._noted else ())
        self._noted = False
        self._forget()

    def undo(self) -> None:
        """Give the old files their names again, where a note says that they count; before it began nothing changed."""
        if not self._begun:
            return
        if not self._noted:
            self._forget()
            return
        below = len(self._at(KEPT)) + 1
        self._copy({name: self._at(name[below:]) for name in self._second_names})
        there = files_at(self._store, self._path) - self._second_names - {self._at(NOTE)}
        _remove(self._store, there - {self._at(name[below:]) for name in self._second_names})
        self.end()

    def _keep_old(self) -> None:
        if self._noted:
            return  # somebody who was replacing them died: they are kept, and what is beside them is not whole
        self._forget()
        below = len(self._at(""))
        kept = {name: self._at(f"{KEPT}/{name[below:]}") for name in self._old}
        self._second_names = set(kept.values())
        self._copy(kept)
        self._noted = True
        self._store.put(io.BytesIO(_TEXT), self._at(NOTE), deltas=False)

    def _forget(self) -> None:
        _remove(self._store, self._second_names)
        self._second_names = set()

    def _copy(self, names: dict[str, str]) -> None:
        transport = self._store.transport

        def copy(pair: tuple[str, str]) -> None:
            transport.write(key_of(pair[1]), _manifest_bytes(transport, pair[0]))

        for _ in in_parallel(copy, sorted(names.items()), requesters(transport.url, len(names))):
            pass

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name


@contextmanager
def replacement(store: Store, path: str, *, replace: bool) -> Iterator[Replacement]:
    """What takes the place of the files at a path; after a failure these are as they were."""
    if not (replace and path):  # nobody means all that is in a store
        require_free(store, path)
    elif _kind(store, path) == "file":
        raise CheckpointExists(
            f"{store.url.joined(path)} is a file, and a checkpoint is a directory",
            remedy="remove it, or use another path",
        )
    made = Replacement(store, path)
    try:
        yield made
    except BaseException:
        with suppress(ShardflowError):  # the note stays where it cannot be done, and says what counts
            made.undo()
        raise


def require_free(store: Store, path: str) -> None:
    """Refuse a path of a store that holds something."""
    if not path and next(iter(store.ls()), None) is not None:
        raise CheckpointExists(f"there are files in the store {store.url}", remedy="name a path in it")
    if path and _kind(store, path):
        raise CheckpointExists(
            f"{store.url.joined(path)} exists", remedy="save to another path, or say that it is to be replaced"
        )


def files_at(store: Store, path: str) -> set[str]:
    """The files below a path of a store."""
    try:
        return {entry.path for entry in store.ls(path, recursive=True) if entry.kind == "file"}
    except PathMissing:
        return set()


def what_counts(folder: AnyFolder) -> tuple[AnyFolder, set[str]]:
    """The directory whose files are the checkpoint of a directory, another one while they are being replaced, and their
    names."""
    names = folder.names()
    if NOTE not in names:
        return folder, names
    if KEPT not in names:
        raise CheckpointUnusable(
            f"{folder.name} is unfinished: whoever wrote it has not come to the end",
            remedy="if nobody is at it, save it again, replacing it",
        )
    kept = folder.inside(KEPT)
    try:
        return kept, kept.names()
    except ModelMissing:  # meanwhile the new one has come to count
        return what_counts(folder)


def _kind(store: Store, path: str) -> str | None:
    try:
        return store.kind(path)
    except PathMissing:
        return None


def _manifest_bytes(transport: Transport, path: str) -> memoryview:
    """As they are stored: what arrives damaged is asked for again, and taken as it is if it stays so."""

    def checked(data: memoryview, name: str) -> memoryview:
        decode_manifest(data, name)
        return data

    try:
        return decoded_at(transport, key_of(path), path, checked)
    except (CorruptData, FormatUnknown):
        return transport.read(key_of(path))


def _remove(store: Store, paths: Iterable[str]) -> None:
    """Those that are there still: somebody else may have removed some."""
    keys = sorted(key_of(path) for path in paths)
    if keys:
        store.config.check("delete", str(store.url))
        for _ in in_parallel(store.transport.delete, keys, requesters(store.url, len(keys))):
            pass
