"""A model's weights in another format than safetensors: written when it is logged, and opened when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import torch
from blake3 import blake3

from shardflow.flavor.errors import ShardAltered
from shardflow.flavor.folders import Folder, LocalFolder
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.places import fetched, require_room, written_to_store
from shardflow.flavor.formats.registry import DEFAULT, format_named
from shardflow.flavor.formats.replacing import what_counts
from shardflow.flavor.formats.saving import fitting, open_local
from shardflow.flavor.formats.state import State
from shardflow.flavor.reading import Wanted
from shardflow.flavor.recipe import RECIPE_FILE, Recipe, StoredFile, decode_recipe
from shardflow.flavor.slicing import Slices, box_of
from shardflow.flavor.stored_weights import Patterns, StoredWeights
from shardflow.flavor.writing import Written, store_at
from shardflow.store.store import shared_budget


def written_as(name: str, state: State, directory: Path, url: str | None) -> Written:
    """Write the weights of a model below a directory, or to a URL of a store."""
    chosen, limits = format_named(name), Limits(shared_budget().total)
    if url is not None:
        store_at(url)
    with ExitStack() as stack:
        target = directory if url is None else stack.enter_context(written_to_store(url, chosen.last, replace=True))
        before = set(target.rglob("*"))
        require_room(target, name, sum(info.size for info in state.tensors.values()))
        chosen.save(state, target, limits)
        made = sorted(file for file in target.rglob("*") if file.is_file() and file not in before)
        return Written(tuple(_noted(file, target) for file in made))
    raise AssertionError("an exit stack lets errors through")


def weights_in(folder: Folder, format: str | None = None) -> StoredWeights | FormatWeights:  # noqa: A002
    """The weights in a directory: safetensors if there are any, unless another format is named."""
    folder, names = what_counts(folder)
    if format in (None, DEFAULT) and any(name.endswith(".safetensors") for name in names):
        return StoredWeights(folder)
    return FormatWeights(folder, RECIPE_FILE in names, format)


class FormatWeights:
    """Reads as StoredWeights does, through a checkpoint format; what lies in a store is fetched first."""

    def __init__(self, folder: Folder, has_recipe: bool, format: str | None = None) -> None:  # noqa: A002
        self.folder = folder
        self.recipe = self._recipe() if has_recipe else None
        named = format or (self.recipe.checkpoint if self.recipe else None)
        with ExitStack() as stack:
            if isinstance(folder, LocalFolder):
                self._place = folder.directory
            else:
                self._place = stack.enter_context(fetched(folder.name))
            self._checkpoint = stack.enter_context(open_local(self._place, named))
            self._stack = stack.pop_all()
        self.aliases = dict(self._checkpoint.aliases)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self, patterns: Patterns = None) -> list[str]:
        return fitting(self._checkpoint, patterns, self.folder.name)

    def read(self, name: str, wanted: Wanted | None = None, slices: Slices | None = None) -> torch.Tensor:
        kept = self.aliases.get(name, name)
        box = box_of(slices, name, self._checkpoint.tensors[kept].shape) if slices is not None else None
        return _as_wanted(self._checkpoint.read(kept, box), wanted)

    def read_all(
        self, names: Iterable[str], wanted: Wanted | None = None, slices: Slices | None = None
    ) -> dict[str, torch.Tensor]:
        if slices is None:
            loaded = self._checkpoint.load(names)
            became = {id(tensor): _as_wanted(tensor, wanted) for tensor in loaded.values()}
            return {name: became[id(tensor)] for name, tensor in loaded.items()}
        return {name: self.read(name, wanted, slices) for name in names}

    def each(
        self, names: Iterable[str], wanted: Wanted | None = None, slices: Slices | None = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name in names:
            yield name, self.read(name, wanted, slices)

    def verify(self) -> None:
        """Compare the files with what was logged."""
        for file in self.recipe.files if self.recipe else ():
            found = self._place / file.name
            if not found.is_file() or _noted(found, self._place) != file:
                raise ShardAltered(
                    f"{file.name} of {self.folder.name} is not the file that was logged",
                    remedy="fetch or log the model again",
                )

    def small_file(self, name: str) -> bytes:
        file = self.folder.open(name)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def _recipe(self) -> Recipe:
        return decode_recipe(self.small_file(RECIPE_FILE), f"{self.folder.name}/{RECIPE_FILE}")


def _as_wanted(tensor: torch.Tensor, wanted: Wanted | None) -> torch.Tensor:
    if wanted is None:
        return tensor
    return tensor.to(wanted.device or tensor.device, wanted.dtype_of(tensor.dtype))


def _noted(file: Path, directory: Path) -> StoredFile:
    size = file.stat().st_size
    digest = blake3(max_threads=blake3.AUTO)
    if size:
        digest.update_mmap(file)
    return StoredFile(str(file.relative_to(directory)), size, digest.hexdigest())
