"""Pack indexes in columns, to hold many of them in memory and compare manifests with them quickly."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardflow.store.manifest import U8, U32, ChunkTable
from shardflow.store.pack import PackEntry

REMEMBERED_ENTRIES = 2 << 20  # about 100 MiB


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """One pack's index, by offset."""

    offset: U32
    stored: U32
    size: U32
    codec: U32
    chunk: U8  # (entries, 32)
    bases: dict[int, tuple[bytes, ...]]  # by offset, where there are any

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of(cls, entries: list[PackEntry]) -> IndexColumns:
        entries = sorted(entries, key=lambda entry: entry.offset)
        numbers = np.asarray([(entry.offset, entry.stored, entry.size, entry.codec) for entry in entries], np.uint32)
        offset, stored, size, codec = numbers.reshape(-1, 4).T
        chunk = np.frombuffer(b"".join(entry.chunk for entry in entries), np.uint8).reshape(-1, 32)
        bases = {entry.offset: entry.bases for entry in entries if entry.bases}
        return cls(offset, stored, size, codec, chunk, bases)

    def agrees(self, table: ChunkTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """For each of these rows of a manifest: whether the pack has that chunk at that place, stored that way."""
        if not len(self):
            return np.zeros(len(rows), bool)
        at = np.minimum(np.searchsorted(self.offset, table.offset[rows]), len(self) - 1)
        same: npt.NDArray[np.bool_] = self.offset[at] == table.offset[rows]
        same &= (self.stored[at] == table.stored[rows]) & (self.size[at] == table.size[rows])
        same &= (self.codec[at] == table.codec[rows]) & (self.chunk[at] == table.chunk[rows]).all(axis=1)
        if self.bases or table.base_count[rows].any():
            same &= np.asarray([self._same_bases(table, row) for row in rows.tolist()], bool)
        return same

    def _same_bases(self, table: ChunkTable, row: int) -> bool:
        return self.bases.get(int(table.offset[row]), ()) == tuple(table.id(base) for base in table.bases(row))


class IndexMemory:
    """The indexes used last: manifests that share packs come near each other."""

    def __init__(self, entries: int = REMEMBERED_ENTRIES) -> None:
        self._limit = entries
        self._held = 0
        self._kept: OrderedDict[bytes, IndexColumns] = OrderedDict()

    def get(self, pack: bytes) -> IndexColumns | None:
        if pack in self._kept:
            self._kept.move_to_end(pack)
        return self._kept.get(pack)

    def keep(self, pack: bytes, columns: IndexColumns) -> IndexColumns:
        self._kept[pack] = columns
        self._held += len(columns)
        while self._held > self._limit and len(self._kept) > 1:
            self._held -= len(self._kept.popitem(last=False)[1])
        return columns
