"""Every place in a pack that manifests need, each counted once: what space is made of.

A place is a pack and an offset in it. They are kept in columns, about thirty bytes each, so that a store of a hundred
million chunks can still be measured on an ordinary machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardflow.store.manifest import Manifest

COMPACT_ABOVE = 1 << 20

_SPOT = np.dtype(
    [
        ("place", "<u8"),  # number of the pack, and offset
        ("name", "<u8"),  # the first bytes of the chunk's name, enough to tell chunks apart
        ("size", "<u4"),
        ("stored", "<u4"),
        ("codec", "u1"),
        ("delta", "?"),  # coded against other chunks
        ("content", "?"),  # part of a file, not only a base of such parts
    ]
)

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Live:
    """The chunks of one pack that something needs, and their stored bytes."""

    chunks: int
    bytes: int


class Spots:
    """Collects the places that manifests name."""

    def __init__(self) -> None:
        self.packs: dict[bytes, int] = {}
        self._settled = np.zeros(0, _SPOT)
        self._new: list[npt.NDArray[np.void]] = []
        self._waiting = 0

    def add(self, manifest: Manifest) -> None:
        table = manifest.table
        if not len(table):
            return
        numbers = np.asarray([self.packs.setdefault(pack, len(self.packs)) for pack in table.packs], np.uint64)
        spots = np.zeros(len(table), _SPOT)
        spots["place"] = numbers[table.pack] << np.uint64(32) | table.offset
        spots["name"] = np.ascontiguousarray(table.chunk[:, :8]).view("<u8").reshape(-1)
        spots["size"], spots["stored"], spots["codec"] = table.size, table.stored, table.codec
        spots["delta"] = table.base_count > 0
        spots["content"][manifest.sequence] = True
        self._new.append(spots)
        self._waiting += len(spots)
        # Merging when the new outnumber the settled keeps the whole work near linear.
        if self._waiting > max(COMPACT_ABOVE, len(self._settled)):
            self._settle()

    def __getitem__(self, column: str) -> Column:
        """One value a place: place, name, size, stored, codec, delta or content."""
        self._settle()
        values: Column = self._settled[column]
        return values

    def __len__(self) -> int:
        self._settle()
        return len(self._settled)

    def live(self) -> dict[bytes, Live]:
        """For every pack that is named: how much of it."""
        self._settle()
        number = (self._settled["place"] >> np.uint64(32)).astype(np.int64)
        chunks = np.bincount(number, minlength=len(self.packs))
        sums = np.zeros(len(self.packs), np.int64)
        np.add.at(sums, number, self._settled["stored"].astype(np.int64))
        return {pack: Live(int(chunks[index]), int(sums[index])) for pack, index in self.packs.items()}

    def _settle(self) -> None:
        if not self._new:
            return
        spots = np.concatenate([self._settled, *self._new])
        self._new, self._waiting = [], 0
        spots = spots[np.argsort(spots["place"], kind="stable")]
        first = np.ones(len(spots), bool)
        first[1:] = spots["place"][1:] != spots["place"][:-1]
        content = np.logical_or.reduceat(spots["content"], np.flatnonzero(first))
        self._settled = spots[first]
        self._settled["content"] = content
