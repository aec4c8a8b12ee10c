"""The weights of a stored model: which tensors there are, and each of them on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatchcase
from threading import Lock
from typing import Self

import torch

from shardflow.flavor.errors import CheckpointUnusable, ModelMissing, ShardAltered, ShardMissing
from shardflow.flavor.folders import Folder, OpenFile, StoreFolder
from shardflow.flavor.header import Entry, Header, read_header
from shardflow.flavor.index import INDEX_FILE, read_index
from shardflow.flavor.reading import TensorReader, Wanted
from shardflow.flavor.recipe import RECIPE_FILE, Recipe, StoredFile, decode_recipe
from shardflow.flavor.slicing import Slices, box_of
from shardflow.store.reader import Reader

Patterns = str | Sequence[str] | None


class StoredWeights:
    """Opens what is asked for and nothing else; use as a context manager."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._opening, self._looking = Lock(), Lock()
        self._stack = ExitStack()
        with self._stack as opened:  # closed if what follows fails
            try:
                self._look()
            except (ShardMissing, ShardAltered):
                self._look()  # its files were divided anew between two looks
            self._stack = opened.pop_all()

    def _look(self) -> None:
        """Find out which files there are and what is in them."""
        names = self.folder.names()
        self.recipe = self._recipe() if RECIPE_FILE in names else None
        self._files: dict[str, tuple[OpenFile, Header]] = {}
        self._known = {file.name: file for file in self.recipe.files} if self.recipe else {}
        self._home = self._indexed() if INDEX_FILE in names else self._listed(names)
        self.aliases = dict(self.recipe.aliases) if self.recipe else self._tied()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self, patterns: Patterns = None) -> list[str]:
        """The tensors whose names fit any of the patterns, those stored under another name included."""
        every = [*self._home, *self.aliases]
        if patterns is None:
            return every
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        found = [name for name in every if any(fnmatchcase(name, pattern) for pattern in wanted)]
        if not found:
            raise CheckpointUnusable(
                f"no tensor of {self.folder.name} is called {' or '.join(wanted)}",
                remedy=f"the names look like {every[0]}" if every else "it has none",
            )
        return found

    def entry(self, name: str) -> Entry:
        """Type, shape and place of a tensor."""
        return self._reader(name).entry

    def read(self, name: str, wanted: Wanted | None = None, slices: Slices | None = None) -> torch.Tensor:
        """One tensor, or the part of it that is wanted."""
        reader = self._reader(name)
        return reader.read(box_of(slices, name, reader.entry.shape), wanted or Wanted())

    def read_all(
        self, names: Iterable[str], wanted: Wanted | None = None, slices: Slices | None = None
    ) -> dict[str, torch.Tensor]:
        """Several tensors, a few at once; names of the same tensor, or of the same part of it, share it."""
        parts = {name: self._part(name, slices) for name in names}
        firsts = {part: name for name, part in reversed(parts.items())}
        with ThreadPoolExecutor(self.folder.at_once, thread_name_prefix="shardflow-load") as pool:
            read = pool.map(lambda name: self.read(name, wanted, slices), firsts.values())
            made = dict(zip(firsts, read, strict=True))
        return {name: made[part] for name, part in parts.items()}

    def each(
        self, names: Iterable[str], wanted: Wanted | None = None, slices: Slices | None = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors one after the other, the next being read while the caller has one."""
        with ThreadPoolExecutor(1, thread_name_prefix="shardflow-load") as pool:
            ahead = None
            for name in names:
                reading = name, pool.submit(self.read, name, wanted, slices)
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
                ahead = reading
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def verify(self) -> None:
        """Read files of the disk from end to end, and compare them with what was logged; a store does so by itself."""
        for name in self._known:
            file, _ = self._open(name)
            self._require(name, digest=file.digest)

    def small_file(self, name: str) -> bytes:
        """A file beside the weights, such as config.json."""
        file = self.folder.open(name)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def _part(self, name: str, slices: Slices | None) -> tuple[object, ...]:
        """What two names have in common if they are one tensor and the same part of it is wanted."""
        box = box_of(slices, name, self.entry(name).shape) if slices is not None else ()
        return self.aliases.get(name, name), *((each.start, each.stop) for each in box)

    def _recipe(self) -> Recipe:
        return decode_recipe(self.small_file(RECIPE_FILE), f"{self.folder.name}/{RECIPE_FILE}")

    def _indexed(self) -> dict[str, str]:
        return dict(read_index(self.small_file(INDEX_FILE), f"{self.folder.name}/{INDEX_FILE}").files)

    def _listed(self, names: set[str]) -> dict[str, str]:
        usual = {"model.safetensors"} & names  # others beside it are no part of it
        files = sorted(usual or {name for name in names if name.endswith(".safetensors")})
        if not files:
            raise ModelMissing(
                f"{self.folder.name} has no safetensors files", remedy="name a model that was logged, or its directory"
            )
        return {tensor: file for file in files for tensor in self._open(file)[1].entries}

    def _tied(self) -> dict[str, str]:
        """Names that the writer of a single file left out, as safetensors notes them."""
        headers = [header for _, header in self._files.values()]
        texts = [item for header in headers for item in header.metadata.items()]
        return {alias: kept for alias, kept in texts if kept in self._home and alias not in self._home}

    def _reader(self, name: str) -> TensorReader:
        seen = self._home, self._known
        try:
            return self._found(name)
        except (ShardMissing, ShardAltered):
            if not self._divided_anew(seen):
                raise
            return self._found(name)

    def _divided_anew(self, seen: tuple[Mapping[str, str], Mapping[str, StoredFile]]) -> bool:
        """Whether the files are others than were seen: a model in a store may be resharded while it is read."""
        if not isinstance(self.folder, StoreFolder):
            return False
        with self._looking:
            if self._home is seen[0]:
                self._look()
            return (self._home, self._known) != seen

    def _found(self, name: str) -> TensorReader:
        kept = self.aliases.get(name, name)
        if kept not in self._home:
            raise CheckpointUnusable(f"{self.folder.name} has no tensor called {name}")
        file, header = self._open(self._home[kept])
        if kept not in header.entries:
            raise ShardAltered(
                f"{self._home[kept]} of {self.folder.name} has no {kept}, which the index says it has",
                remedy="fetch or log the model again",
            )
        return TensorReader(f"{self.folder.name}: {name}", file, header.entries[kept])

    def _open(self, name: str) -> tuple[OpenFile, Header]:
        with self._opening:
            if name not in self._files:
                file = self.folder.open(name)
                self._stack.callback(file.close)
                header = read_header(file.read_at, file.size, f"{self.folder.name}/{name}")
                self._files[name] = file, header
                self._require(name, size=file.size, digest=file.digest if isinstance(file, Reader) else None)
            return self._files[name]

    def _require(self, name: str, *, size: int | None = None, digest: str | None = None) -> None:
        known = self._known.get(name)
        if known and ((size is not None and size != known.size) or (digest is not None and digest != known.digest)):
            raise ShardAltered(
                f"{name} of {self.folder.name} is not the file that was logged", remedy="fetch or log the model again"
            )
