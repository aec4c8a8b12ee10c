"""What became of the tensors of one stored model in another, told from the chunks that both are made of.

Chunks are named by their content, so models may be compared without reading their weights, also where they lie in two
stores. Only small tensors, which share chunks with their neighbours, are read where such a chunk changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shardflow.codec import CodecId
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.moving.division import StoredTensor, read_division
from shardflow.store.manifest import Manifest, ends_of
from shardflow.store.parallel import in_parallel

MOST_READ = 256 << 20
SHARED = "equal"  # the kind of chunks that both models have
BASES_NEEDED = frozenset(codec.name.lower() for codec in CodecId if codec >= CodecId.DELTA)

Status = Literal["unchanged", "changed", "new", "gone", "not compared"]


@dataclass(frozen=True, slots=True)
class Amount:
    """So many tensors or chunks, their bytes, and what these take in the store where that is known."""

    count: int
    size: int
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """One model beside the one it was made from."""

    tensors: Mapping[Status, Amount]
    changed: Sequence[str]  # names, in the order of the model
    chunks: Mapping[str, Amount] | None  # by kind: equal, or how what is not equal is coded; None if that is not known

    @property
    def kinds(self) -> str:
        """How differences are stored, such as `delta`; `none` if no chunk is stored as one."""
        sizes = {kind: found.size for kind, found in (self.chunks or {}).items() if kind in BASES_NEEDED}
        return ", ".join(sorted(sizes, key=lambda kind: -sizes[kind])) or "none"


@dataclass(frozen=True, slots=True)
class _Cover:
    """The chunks that a tensor lies in."""

    names: bytes
    before: int  # bytes of the first one that are not the tensor's
    after: int
    sizes: tuple[int, ...]

    def cut_as(self, other: _Cover) -> bool:
        return (self.before, self.sizes) == (other.before, other.sizes)

    @property
    def alone(self) -> bool:
        return not self.before and not self.after


@dataclass(frozen=True, slots=True)
class _Tensor:
    content: StoredTensor
    cover: _Cover

    @property
    def size(self) -> int:
        return self.content.entry.length

    def read(self) -> bytes:
        return self.content.file.read_at(self.content.entry.offset, self.size)


@dataclass(frozen=True, slots=True)
class _Model:
    """A stored model as it is compared."""

    tensors: Mapping[str, _Tensor]
    aliases: Mapping[str, str]
    manifests: Sequence[Manifest]

    def find(self, name: str) -> _Tensor | None:
        return self.tensors.get(self.aliases.get(name, name))


def changes_between(before: StoreFolder, after: StoreFolder) -> Changes:
    """Compare the models whose weights are in two folders."""
    with ExitStack() as stack:
        old, new = _model(before, stack), _model(after, stack)
        status = _statuses(old, new)
        sizes = {name: new.tensors[name].size for name in new.tensors}
        sizes |= {name: old.tensors[name].size for name, found in status.items() if found == "gone"}
        chunks = chunks_by_kind(new.manifests, {name for one in old.manifests for name in one.table.ids()})
        return changes_of(status, sizes, chunks)


def changes_of(
    status: Mapping[str, Status], sizes: Mapping[str, int], chunks: Mapping[str, Amount] | None = None
) -> Changes:
    """What became of each tensor, counted."""
    return Changes(
        {found: _amount(sizes[name] for name in status if status[name] == found) for found in _ordered(status)},
        tuple(name for name, found in status.items() if found == "changed"),
        chunks,
    )


def chunks_by_kind(manifests: Sequence[Manifest], shared: set[bytes]) -> dict[str, Amount]:
    """The chunks of files by how they are stored; `shared` are the names of some that another model has as well."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for manifest in manifests:
        table, names = manifest.table, manifest.table.ids()
        rows, uses = np.unique(manifest.sequence, return_counts=True)
        for row, used in zip(rows.tolist(), uses.tolist(), strict=True):
            kind = SHARED if names[row] in shared else CodecId(int(table.codec[row])).name.lower()
            count[kind] += used
            size[kind] += used * int(table.size[row])
            stored[kind] += int(table.stored[row])
    return {kind: Amount(count[kind], size[kind], stored[kind]) for kind in count}


def _model(folder: StoreFolder, stack: ExitStack) -> _Model:
    division = read_division(folder, stack)
    paths = [f"{folder.path}/{file}" if folder.path else file for file in division.files]
    manifests = dict(zip(division.files, in_parallel(folder.store.manifest, paths), strict=True))
    tensors = {}
    for file, names in division.files.items():
        places = _Places(manifests[file])
        for name in names:
            content = division.contents[name]
            tensors[name] = _Tensor(content, places.cover(content.entry.offset, content.entry.length))
    in_order = {tensor.name: tensors[tensor.name] for tensor in division.tensors}
    return _Model(in_order, division.aliases, list(manifests.values()))


class _Places:
    """Where the chunks of one file are."""

    def __init__(self, manifest: Manifest) -> None:
        self._ends = ends_of(manifest)
        rows = manifest.sequence.astype(np.int64)
        self._sizes: npt.NDArray[np.int64] = manifest.table.size.astype(np.int64)[rows]
        self._names = manifest.table.chunk[rows]

    def cover(self, start: int, length: int) -> _Cover:
        if not len(self._ends):  # the file lies in its manifest, and has no chunks
            return _Cover(b"", 1, 1, ())
        end = start + length
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = max(first, int(np.searchsorted(self._ends, end, side="left")) + 1 if length else first)
        sizes = tuple(self._sizes[first:last].tolist())
        if not sizes:
            return _Cover(b"", 0, 0, ())
        before = start - (int(self._ends[first]) - sizes[0])
        return _Cover(self._names[first:last].tobytes(), before, int(self._ends[last - 1]) - end, sizes)


def _statuses(old: _Model, new: _Model) -> dict[str, Status]:
    status: dict[str, Status] = {}
    unclear: dict[str, tuple[_Tensor, _Tensor]] = {}
    for name, tensor in new.tensors.items():
        was = old.find(name)
        found = _by_chunks(was, tensor) if was is not None else "new"
        status[name] = found or "not compared"
        if was is not None and found is None:
            unclear[name] = was, tensor
    status |= _by_reading(unclear)
    return status | dict.fromkeys((name for name in old.tensors if new.find(name) is None), "gone")


def _by_chunks(old: _Tensor, new: _Tensor) -> Status | None:
    """What the chunks tell; None if a chunk with other tensors in it differs, or both are cut in different ways."""
    mine, theirs = new.content.entry, old.content.entry
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return "changed"
    if not mine.length:
        return "unchanged"
    if not new.cover.names or not new.cover.cut_as(old.cover):
        return None
    if new.cover.names == old.cover.names:
        return "unchanged"
    return "changed" if new.cover.alone and old.cover.alone else None


def _by_reading(unclear: Mapping[str, tuple[_Tensor, _Tensor]]) -> Iterator[tuple[str, Status]]:
    """Compare tensors byte by byte, as long as they are not too much."""
    affordable, left = [], MOST_READ
    for name, (old, new) in unclear.items():
        if new.size <= left:
            affordable.append((name, old, new))
            left -= new.size
    equal = in_parallel(lambda each: each[1].read() == each[2].read(), affordable, 4)
    for (name, _, _), same in zip(affordable, equal, strict=True):
        yield name, "unchanged" if same else "changed"


def _ordered(status: Mapping[str, Status]) -> list[Status]:
    every: tuple[Status, ...] = ("unchanged", "changed", "new", "gone", "not compared")
    found = set(status.values())
    return [each for each in every if each in found or each in every[:4]]


def _amount(sizes: Iterator[int]) -> Amount:
    found = list(sizes)
    return Amount(len(found), sum(found))
