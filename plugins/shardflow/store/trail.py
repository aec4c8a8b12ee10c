"""The chunks of earlier versions in the order of their files: what a new version may be expected to be made of.

Kept in columns, about sixteen bytes a chunk; their names are the catalog's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from shardflow.store.bases import Known
from shardflow.store.catalog import Catalog
from shardflow.store.gear import Gear
from shardflow.store.manifest import U32, Manifest


class Trail:
    """One version after another; a position is the number of a chunk among those of all."""

    def __init__(self, catalog: Catalog, versions: Sequence[Known]) -> None:
        self._catalog = catalog
        self._rows = np.concatenate([_rows(known) for known in versions])
        self._sizes = np.concatenate([_sizes(known.manifest) for known in versions])
        self._lasts = np.cumsum([len(known.manifest.sequence) for known in versions]) - 1
        self._by_row = np.argsort(self._rows, kind="stable")

    def fitting(self, at: int, room: int, *, final: bool) -> list[tuple[bytes, int]]:
        """Names and sizes of the chunks from a position on that fit into so many bytes, with which the file may end.

        It was the end of its file that cut a version's last chunk, so it fits only where the new file ends as well.
        """
        last = self._last_from(at)
        ends = np.cumsum(self._sizes[at : min(last + 1, at + room)], dtype=np.int64)
        count = int(np.searchsorted(ends, room, side="right"))
        if at + count > last and not (final and ends[-1] == room):
            count -= 1
        return [(self._catalog.name(int(self._rows[n])), self.size(n)) for n in range(at, at + count)]

    def size(self, at: int) -> int:
        return int(self._sizes[at])

    def behind(self, at: int) -> int | None:
        """The next position; None at the end of a version."""
        return at + 1 if at < self._last_from(at) else None

    def after(self, chunk: bytes) -> int | None:
        """The position behind a chunk of that name, the first one; None where there is none."""
        row = self._catalog.find(chunk)
        if row is None:
            return None
        place = int(np.searchsorted(self._rows, row, sorter=self._by_row))
        at = int(self._by_row[place]) if place < len(self._by_row) else -1
        return self.behind(at) if at >= 0 and self._rows[at] == row else None

    def _last_from(self, at: int) -> int:
        return int(self._lasts[np.searchsorted(self._lasts, at)])


def trail_of(catalog: Catalog, known: Iterable[Known], gear: Gear) -> Trail | None:
    """The trail of those files that were cut by content from end to end, each content once."""
    versions: dict[bytes, Known] = {}
    for each in known:
        if _cut_by(gear, each.manifest):
            versions.setdefault(each.manifest.digest, each)
    return Trail(catalog, list(versions.values())) if versions else None


def _cut_by(gear: Gear, manifest: Manifest) -> bool:
    sizes = _sizes(manifest)
    return (
        manifest.layout == "plain"
        and manifest.size > gear.maximum  # a smaller one is cut at fixed sizes
        and len(sizes) > 0
        and bool((sizes <= gear.maximum).all() and (sizes[:-1] >= gear.minimum).all())
    )


def _rows(known: Known) -> npt.NDArray[np.int64]:
    return np.asarray(known.rows, np.int64)[known.manifest.sequence]


def _sizes(manifest: Manifest) -> U32:
    return manifest.table.size[manifest.sequence]
