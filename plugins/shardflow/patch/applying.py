"""Applies patches: checks the older version, makes the newer one beside its place, and puts it there when whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from blake3 import blake3

from shardflow.errors import CorruptData
from shardflow.patch.files import OpenFile, check_readable, opened
from shardflow.patch.format import COPY, MAKE_AGAIN, Directory, NewFile, PatchDamaged, WrongSource, read_directory
from shardflow.store.chunks import KeptChunks
from shardflow.store.errors import PathTaken, SourceUnusable
from shardflow.store.fetch import decoded
from shardflow.store.placing import told


@dataclass(frozen=True, slots=True)
class Described:
    """A patch, without what it holds."""

    patch: str
    directory: Directory
    patch_bytes: int


def describe(patch: str | Path) -> Described:
    """What a patch is for, from its directory alone."""
    with _opened_patch(patch) as file:
        directory = read_directory(file, str(patch))
        return Described(str(patch), directory, file.seek(0, 2))


def check_chain(patches: Sequence[Described]) -> None:
    """Refuse patches of which one does not begin where the one before it ends."""
    for before, after in pairwise(patches):
        ends = {(file.path, file.digest) for file in before.directory.new}
        begins = {(file.path, file.digest) for file in after.directory.old}
        if ends != begins:
            raise WrongSource(
                f"{after.patch} does not begin with what {before.patch} leads to", remedy="name them in their order"
            )


def apply(older: str | Path, patches: str | Path | Sequence[str | Path], out: str | Path) -> int:
    """Make the newer version of a file or directory; returns its bytes. The older one is left as it is."""
    several = [patches] if isinstance(patches, str | Path) else list(patches)
    described = [describe(patch) for patch in several]
    check_chain(described)
    check_readable(older)
    target = Path(out)
    with told(target):
        _check_free(target, described[-1].directory)
        parent = target.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(prefix=".shardflow-", dir=parent, ignore_cleanup_errors=True)
    with temporary as between:
        current: str | Path = older
        for number, patch in enumerate(several):
            step = Path(between) / str(number)
            _apply_one(current, patch, step)
            current = step
        with told(target):
            if Path(current).is_dir() and target.is_dir():
                target.rmdir()
            Path(current).replace(target)
    return sum(file.size for file in described[-1].directory.new)


def _apply_one(older: str | Path, patch: str | Path, target: Path) -> None:
    with _opened_patch(patch) as file, opened(older) as before:
        directory = read_directory(file, str(patch))
        making = _Making(str(patch), directory, file, _checked_sources(directory, before, str(older), str(patch)))
        for new in directory.new:
            place = target if directory.single else target / new.path
            with told(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as made:
                    making.write(new, made)
        if not directory.new:
            target.mkdir()


def _checked_sources(directory: Directory, before: list[OpenFile], older: str, patch: str) -> list[OpenFile]:
    """The files of the older version in the patch's order, each proven to be the one that it was made for."""
    by_name = {file.name: file for file in before}
    if directory.single and len(before) == 1:
        by_name = {"": before[0]}
    found = []
    for wanted in directory.old:
        file = by_name.get(wanted.path)
        name = f"{older}/{wanted.path}" if wanted.path else older
        if file is None:
            raise WrongSource(f"{name} is not there, and {patch} was made with it", remedy="name the version it is for")
        if file.size != wanted.size or file.digest() != wanted.digest:
            raise WrongSource(f"{name} is not what {patch} was made for", remedy="name the version it is for")
        found.append(file)
    return found


class _Making:
    """Makes files of a patch and of what it was made for."""

    def __init__(self, name: str, directory: Directory, payload: BinaryIO, before: list[OpenFile]) -> None:
        self._name = name
        self._rows = directory.rows
        self._payload = payload
        self._before = before
        self._kept = KeptChunks()

    def write(self, new: NewFile, out: BinaryIO) -> None:
        whole = blake3()
        for row in new.rows:
            data = self._plain(row)
            whole.update(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
        if whole.digest() != new.digest:
            raise self._damaged(f"it does not lead to the {new.path or 'file'} that it promises")

    def _plain(self, number: int) -> memoryview:
        row = self._rows[number]
        if row.codec == COPY:
            data = memoryview(self._before[row.file].exactly(row.offset, row.size))
            if blake3(data).digest() != row.digest:
                raise self._damaged(f"chunk {number} is not where it says")
            return data
        self._payload.seek(row.offset)
        stored = self._payload.read(row.stored)
        bases = [self._base(*base) for base in row.bases]
        try:
            return decoded(row.codec, stored, row.digest, row.size, bases)
        except CorruptData as error:
            raise self._damaged(f"chunk {number}: {error.message}") from None

    def _base(self, file: int, offset: int, length: int) -> memoryview:
        if file >= 0:
            return memoryview(self._before[file].exactly(offset, length))
        chunk = self._rows[offset].digest
        data = self._kept.get(chunk)
        if data is None:
            data = memoryview(bytes(self._plain(offset)))
            self._kept.put(chunk, data)
        return data

    def _damaged(self, what: str) -> PatchDamaged:
        return PatchDamaged(f"{self._name} is no sound patch: {what}", remedy=MAKE_AGAIN)


def _check_free(target: Path, directory: Directory) -> None:
    if directory.single and target.is_dir():
        raise PathTaken(f"{target} is a directory, and the patch makes a file", remedy="name another target")
    if not directory.single and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PathTaken(f"{target} exists", remedy="name a target that does not, or an empty directory")


def _opened_patch(patch: str | Path) -> BinaryIO:
    try:
        return Path(patch).open("rb")
    except OSError as error:
        raise SourceUnusable(f"{patch} cannot be read: {error.strerror}") from None
