"""Files in the store that a new file is coded against: which they are, and their chunks as bases."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from shardflow.codec import CodecId
from shardflow.delta.bases import Piece, Placed
from shardflow.layout import Layout, inspect
from shardflow.store.catalog import Catalog
from shardflow.store.chunks import MOST_BASE_BYTES, KeptChunks, PlainChunks
from shardflow.store.manifest import Manifest, ends_of
from shardflow.transport import Transport

Held = Callable[[int, int], memoryview | None]
"""Some bytes of a stored file that the caller still has in memory, by offset and length; None where it has not."""

_SAME_SIZE = frozenset({CodecId.DELTA, CodecId.SPARSE, CodecId.LOWRANK})  # their first base may be as long as the chunk


@dataclass(frozen=True, slots=True)
class Known:
    """A stored file that was looked up, and the catalog's rows for those of its table."""

    path: str
    manifest: Manifest
    rows: Sequence[int]


class StoredBase:
    """A stored file as a base; the keys of its pieces are rows of the catalog."""

    def __init__(
        self,
        transport: Transport,
        catalog: Catalog,
        known: Known,
        kept: KeptChunks,
        most_depth: int,
        held: Held | None = None,
    ) -> None:
        self.path = known.path
        self._known = known
        self._catalog = catalog
        self._most_depth = most_depth
        self._held = held
        self._as_named: set[int] = set()  # rows that memory was seen to hold
        self._chunks = PlainChunks(transport, known.manifest.table, known.path, kept)
        self._ends: list[int] = ends_of(known.manifest).tolist()
        self._sequence: list[int] = known.manifest.sequence.tolist()
        self.layout: Layout = inspect(self.read_at, known.manifest.size)

    @property
    def at_hand(self) -> bool:
        return self._held is not None

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Some bytes of the file."""
        inline = self._known.manifest.inline
        if inline is not None:
            return inline[offset : offset + length]
        end = min(offset + length, self._known.manifest.size)
        out = bytearray(max(end - offset, 0))
        for index in self._within(offset, end):
            row = self._sequence[index]
            data = self._plain([index], [row])[row]
            start = self._ends[index] - len(data)
            first, last = max(start, offset), min(self._ends[index], end)
            out[first - offset : last - offset] = data[first - start : last - start]
        return bytes(out)

    def pieces(self, start: int, end: int, /) -> list[Placed]:
        """The chunks that cover a run; none if one of them is too long a chain, or all of them too much."""
        if self._known.manifest.inline is not None:
            return []
        indices = self._within(start, end)
        anchors = [self._anchor(self._sequence[index]) for index in indices]
        rows = [row for row in anchors if row is not None]
        if len(rows) < len(anchors) or (weight := self._weight(rows)) > MOST_BASE_BYTES:
            return []
        plain = self._plain(indices, rows)
        below = weight - len(plain[rows[0]]) if len(rows) == 1 else 0  # of several, all is weighed already
        return [
            Placed(self._ends[index] - len(plain[row]), Piece(self._known.rows[row], plain[row], below))
            for index, row in zip(indices, rows, strict=True)
        ]

    def _plain(self, indices: Sequence[int], rows: Sequence[int]) -> dict[int, memoryview]:
        """Chunks by their rows: out of the caller's memory where they are there still, or else out of the store."""
        at_hand = {row: data for index, row in zip(indices, rows, strict=True) if (data := self._in_memory(index, row))}
        return at_hand | self._chunks.of(row for row in rows if row not in at_hand)

    def _in_memory(self, index: int, row: int) -> memoryview | None:
        table = self._known.manifest.table
        size = int(table.size[row])
        if self._held is None or row != self._sequence[index]:
            return None
        data = self._held(self._ends[index] - size, size)
        if data is None or row in self._as_named:
            return data
        # Who reads the new file will have the stored chunk, so only what has its name may stand for it.
        if blake3(data).digest() != table.id(row):
            return None
        self._as_named.add(row)
        return data

    def _within(self, start: int, end: int) -> range:
        first = bisect_right(self._ends, start)
        last = first
        while last < len(self._ends) and (last == first or self._ends[last - 1] < end):
            last += 1
        return range(first, last)

    def _anchor(self, row: int) -> int | None:
        """The row itself; or the beginning of its chain, once that has grown too long to go on with."""
        if self._depth(row) < self._most_depth:
            return row
        table = self._known.manifest.table
        while int(table.codec[row]) in _SAME_SIZE and int(table.size[base := self._chunks.bases(row)[0]]) == int(
            table.size[row]
        ):
            row = base
        return row if self._depth(row) < self._most_depth else None

    def _depth(self, row: int) -> int:
        return self._catalog.depth(self._known.rows[row])

    def _weight(self, rows: list[int]) -> int:
        needed = self._catalog.with_bases(self._known.rows[row] for row in rows)
        return sum(self._catalog.size_of(row) for row in needed)


def distinct(known: Sequence[Known]) -> list[Known]:
    """The files with tensors, each content once."""
    first: dict[bytes, Known] = {}
    for each in known:
        if each.manifest.layout != "plain":
            first.setdefault(each.manifest.digest, each)
    return list(first.values())
