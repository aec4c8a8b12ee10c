"""How a model in a store is divided into files at present: read from the headers, so without reading the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from shardflow.flavor.errors import CheckpointUnusable, ModelMissing, ShardAltered, ShardMissing
from shardflow.flavor.folders import OpenFile, StoreFolder
from shardflow.flavor.header import Entry, Header, read_header
from shardflow.flavor.index import INDEX_FILE, read_index
from shardflow.flavor.recipe import RECIPE_FILE, Recipe, decode_recipe
from shardflow.flavor.shards import METADATA
from shardflow.flavor.tensors import TensorInfo

ENDING = ".safetensors"
_SINGLE = "model.safetensors"
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The bytes of a tensor in a stored file, which stay what they are while they are read."""

    file: OpenFile
    entry: Entry

    def read_into(self, offset: int, target: memoryview, /) -> None:
        read = self.file.readinto_at(self.entry.offset + offset, target)
        assert read == len(target)  # a header that leads out of its file is refused before

    def check_unchanged(self) -> None:
        """What was opened in a store cannot change."""


@dataclass(frozen=True, slots=True)
class Division:
    """The tensors of a model, and which file each of them is in."""

    folder: StoreFolder
    files: Mapping[str, frozenset[str]]
    tensors: tuple[TensorInfo, ...]
    contents: Mapping[str, StoredTensor]
    aliases: Mapping[str, str]
    metadata: Mapping[str, str]  # texts in the headers
    recipe: Recipe | None
    index: bool  # whether there is one

    @property
    def size(self) -> int:
        return sum(tensor.size for tensor in self.tensors)


def read_division(folder: StoreFolder, stack: ExitStack, passed_over: Iterable[str] = ()) -> Division:
    """Open every file of the weights in a folder; `passed_over` are some that unfinished work put beside them."""
    names = folder.names()
    home = _indexed(folder) if INDEX_FILE in names else None
    files = sorted(set(home.values())) if home is not None else _weight_files(folder, names, set(passed_over))
    opened = {name: _open(folder, name, stack) for name in files}
    contents = {
        tensor: (name, StoredTensor(file, entry))
        for name, (file, header) in opened.items()
        for tensor, entry in header.entries.items()
        if home is None or home.get(tensor) == name
    }
    _require_whole(folder, home, opened)
    recipe = _recipe(folder) if RECIPE_FILE in names else None
    aliases = dict(recipe.aliases) if recipe is not None else _ties(opened.values(), contents)
    return Division(
        folder,
        {file: frozenset(name for name, (place, _) in contents.items() if place == file) for file in files},
        tuple(_info(name, contents[name][1].entry) for name in _sorted(contents)),
        {name: content for name, (_, content) in contents.items()},
        aliases,
        _common_texts([header for _, header in opened.values()], aliases),
        recipe,
        home is not None,
    )


def _info(name: str, entry: Entry) -> TensorInfo:
    return TensorInfo(name, entry.dtype, entry.shape)


def _sorted(names: Iterable[str]) -> list[str]:
    """Blocks by their numbers: an order that does not depend on how the tensors are divided now."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), part) if part.isdecimal() else (-1, part) for part in _NUMBERS.split(name)]

    return sorted(names, key=key)


def _indexed(folder: StoreFolder) -> dict[str, str]:
    file = folder.open(INDEX_FILE)
    try:
        return dict(read_index(file.read_at(0, file.size), f"{folder.name}/{INDEX_FILE}").files)
    finally:
        file.close()


def _weight_files(folder: StoreFolder, names: set[str], passed_over: set[str]) -> list[str]:
    if _SINGLE in names:
        return [_SINGLE]
    files = sorted(name for name in names - passed_over if name.endswith(ENDING))
    if not files:
        raise ModelMissing(
            f"{folder.name} has no safetensors files", remedy="name a model that was logged, or its directory"
        )
    return files


def _open(folder: StoreFolder, name: str, stack: ExitStack) -> tuple[OpenFile, Header]:
    file = folder.open(name)
    stack.callback(file.close)
    return file, read_header(file.read_at, file.size, f"{folder.name}/{name}")


def _require_whole(
    folder: StoreFolder, home: Mapping[str, str] | None, opened: Mapping[str, tuple[OpenFile, Header]]
) -> None:
    """Every tensor in one file, and in the one that the index says: nothing may be lost or guessed."""
    found = [(tensor, name) for name, (_, header) in opened.items() for tensor in header.entries]
    if home is None:
        doubled = {tensor for tensor, name in found if dict(found)[tensor] != name}
        if doubled:
            raise CheckpointUnusable(
                f"{min(doubled)} is in more than one file of {folder.name}, and there is no index",
                remedy="remove the files that do not belong to the model, or add an index",
            )
        return
    for tensor, name in home.items():
        if tensor not in opened[name][1].entries:
            raise ShardAltered(f"{name} of {folder.name} has no {tensor}, which the index says it has")
    left_out = {tensor for tensor, _ in found} - home.keys()
    if left_out:
        raise CheckpointUnusable(
            f"the index of {folder.name} does not name {min(left_out)}, which is in its files",
            remedy="write the index again",
        )


def _recipe(folder: StoreFolder) -> Recipe | None:
    try:
        file = folder.open(RECIPE_FILE)
    except ShardMissing:
        return None
    try:
        return decode_recipe(file.read_at(0, file.size), f"{folder.name}/{RECIPE_FILE}")
    finally:
        file.close()


def _ties(opened: Iterable[tuple[OpenFile, Header]], names: Mapping[str, object]) -> dict[str, str]:
    """Names that the writer of the files left out, as safetensors notes them."""
    texts = [item for _, header in opened for item in header.metadata.items()]
    return {alias: kept for alias, kept in texts if kept in names and alias not in names}


def _common_texts(headers: list[Header], aliases: Mapping[str, str]) -> dict[str, str]:
    """What every header says beside its ties, or what one says and no other contradicts."""
    kept: dict[str, str] = {}
    contradicted: set[str] = set()
    for header in headers:
        for name, text in header.metadata.items():
            if kept.setdefault(name, text) != text:
                contradicted.add(name)
    dropped = contradicted | aliases.keys()
    return {**METADATA, **{name: text for name, text in kept.items() if name not in dropped}}
