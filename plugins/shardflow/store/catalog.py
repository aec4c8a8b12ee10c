"""The chunks a writer knows where to find: those it wrote, and those of the manifests it thinks similar.

Kept in columns, about sixty bytes a chunk beside its name, so that a file of a million chunks stays affordable.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardflow.store.manifest import U32, ChunkTable, Manifest
from shardflow.store.pack import PackEntry

MAX_REMEMBERED = 1 << 20
PLENTY = 1 << 40  # more bytes than anything may rest on


class Catalog:
    """Rows of chunks, found by name; packs are numbered when opened and named when finished."""

    def __init__(self) -> None:
        self.packs: list[bytes] = []
        self._rows: dict[bytes, int] = {}
        self._names = bytearray()
        self._pack = array("I")
        self._offset = array("I")
        self._stored = array("I")
        self._size = array("I")
        self._codec = array("B")
        self._bases: dict[int, tuple[int, ...]] = {}
        self._depths: dict[int, int] = {}
        self._at_most: dict[int, int] = {}  # bytes a row rests on; what it rests on twice counts twice
        self._waiting: list[tuple[int, PackEntry]] = []  # found in packs, while what they rest on is not known yet
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._pack)

    def find(self, chunk: bytes) -> int | None:
        return self._rows.get(chunk)

    def pack_of(self, row: int) -> int:
        return self._pack[row]

    def size_of(self, row: int) -> int:
        return self._size[row]

    def depth(self, row: int) -> int:
        """How many chunks must be decoded before this one; 0 for one that stands by itself."""
        return self._depths.get(row, 0)

    def rests_on_more(self, row: int, limit: int) -> bool:
        """Whether more than so many bytes must be decoded before this chunk."""
        if self._at_most.get(row, 0) <= limit:
            return False
        return sum(self._size[needed] for needed in self.with_bases([row])) - self._size[row] > limit

    def open_pack(self) -> int:
        """A number for a pack that has no name yet."""
        self.packs.append(b"")
        return len(self.packs) - 1

    def name_pack(self, number: int, pack: bytes) -> None:
        self.packs[number] = pack
        self._numbers.setdefault(pack, number)

    def number_of(self, pack: bytes) -> int:
        number = self._numbers.get(pack)
        if number is None:
            number = self.open_pack()
            self.name_pack(number, pack)
        return number

    def add(
        self, chunk: bytes, pack: int, offset: int, stored: int, size: int, codec: int, bases: tuple[int, ...] = ()
    ) -> int:
        """A row for a chunk; the newest row of a name is the one found."""
        row = len(self._pack)
        self._names += chunk
        self._pack.append(pack)
        self._offset.append(offset)
        self._stored.append(stored)
        self._size.append(size)
        self._codec.append(codec)
        if bases:
            self._bases[row] = bases
            self._depths[row] = 1 + max(self.depth(base) for base in bases)
            at_most = sum(self._size[base] + self._at_most.get(base, 0) for base in bases)
            self._at_most[row] = min(at_most, PLENTY)  # each base twice, and a foreign table doubles it with every row
        # Past the limit chunks still get their row, about twenty bytes beside the name; they are only no longer found.
        if len(self._rows) < MAX_REMEMBERED or chunk in self._rows:
            self._rows[chunk] = row
        return row

    def add_pack(self, pack: bytes, entries: Iterable[PackEntry]) -> None:
        """Everything in a pack that is known to be in the store; what rests on unknown chunks waits for them."""
        number = self.number_of(pack)
        self._waiting += [(number, entry) for entry in entries if not self._taken_up(number, entry)]

    def _taken_up(self, number: int, entry: PackEntry) -> bool:
        bases = [self._rows.get(base) for base in entry.bases]
        rows = tuple(row for row in bases if row is not None)
        if len(rows) == len(bases) and entry.chunk not in self._rows:
            self.add(entry.chunk, number, entry.offset, entry.stored, entry.size, entry.codec, rows)
        return len(rows) == len(bases)

    def add_manifest(self, manifest: Manifest) -> list[int]:
        """Everything a stored file is made of; returns the rows that stand for those of its table.

        Of two ways to a chunk the shorter one is found from now on: what is put on top of the longer one may be too
        long to be read.
        """
        table = manifest.table
        numbers = [self.number_of(pack) for pack in table.packs]
        if len(table.base) or len(self._rows) + len(table) > MAX_REMEMBERED:
            rows = self._add_each(table, numbers)
        else:
            rows = self._add_columns(table, np.asarray(numbers, np.uint32))
        self._waiting = [(number, entry) for number, entry in self._waiting if not self._taken_up(number, entry)]
        return rows

    def _add_each(self, table: ChunkTable, numbers: list[int]) -> list[int]:
        rows: list[int] = []
        next_base = 0
        for index in range(len(table)):
            bases = table.base[next_base : next_base + int(table.base_count[index])]
            next_base += len(bases)
            chunk = table.id(index)
            row = self._rows.get(chunk)
            on = tuple(rows[base] for base in bases)
            if row is None or self._is_shorter(on, row):
                row = self.add(
                    chunk,
                    numbers[table.pack[index]],
                    int(table.offset[index]),
                    int(table.stored[index]),
                    int(table.size[index]),
                    int(table.codec[index]),
                    on,
                )
            rows.append(row)
        return rows

    def _is_shorter(self, bases: tuple[int, ...], known: int) -> bool:
        """Whether a chunk on these bases is decoded in fewer steps than the row that is known by its name."""
        depth = self.depth(known)
        return depth > 0 and (not bases or 1 + max(self.depth(base) for base in bases) < depth)

    def _add_columns(self, table: ChunkTable, numbers: U32) -> list[int]:
        """What stands by itself, in a tenth of the time."""
        names = table.ids()
        new = [
            index for index, name in enumerate(names) if (row := self._rows.get(name)) is None or row in self._depths
        ]
        for row, index in reversed(list(enumerate(new, len(self)))):
            self._rows[names[index]] = row  # the first, where a table made by somebody else names a chunk twice
        self._names += table.chunk[new].tobytes()
        self._codec.frombytes(table.codec[new].tobytes())
        for column, given in (
            (self._pack, numbers[table.pack]),
            (self._offset, table.offset),
            (self._stored, table.stored),
            (self._size, table.size),
        ):
            column.frombytes(np.ascontiguousarray(given[new], np.uint32).tobytes())
        return [self._rows[name] for name in names]

    def move(self, row: int, pack: int, offset: int) -> None:
        """A chunk's bytes were copied elsewhere."""
        self._pack[row] = pack
        self._offset[row] = offset

    def with_bases(self, rows: Iterable[int]) -> list[int]:
        """The rows and all they are coded against, each once, bases first."""
        if not self._bases:
            once: list[int] = _each_once(np.fromiter(rows, np.uint32)).tolist()
            return once
        ordered: dict[int, None] = {}
        stack: list[tuple[int, bool]] = []
        for wanted in rows:
            stack.append((wanted, False))
            while stack:
                row, ready = stack.pop()
                if row in ordered:
                    continue
                bases = self._bases.get(row, ())
                if ready or not bases:
                    ordered[row] = None
                else:
                    stack.append((row, True))
                    stack.extend((base, False) for base in bases)
        return list(ordered)

    def location(self, row: int) -> tuple[int, int, int]:
        """Pack number, offset and stored length."""
        return self._pack[row], self._offset[row], self._stored[row]

    def entry(self, row: int) -> PackEntry:
        bases = tuple(self.name(base) for base in self._bases.get(row, ()))
        return PackEntry(self.name(row), self._offset[row], self._stored[row], self._size[row], self._codec[row], bases)

    def name(self, row: int) -> bytes:
        return bytes(self._names[32 * row : 32 * row + 32])

    def table(self, rows: array[int]) -> tuple[ChunkTable, U32]:
        """The manifest table for a file made of these rows, and its sequence."""
        needed = np.asarray(self.with_bases(rows), np.int64)
        place = _Places(needed)
        numbers, pack = np.unique(_taken(self._pack, np.uint32, needed), return_inverse=True)
        base_lists = [self._bases.get(int(row), ()) for row in needed] if self._bases else []
        table = ChunkTable(
            tuple(self.packs[number] for number in numbers),
            _taken(self._names, np.uint8, needed, 32),
            pack.astype(np.uint32),
            _taken(self._offset, np.uint32, needed),
            _taken(self._stored, np.uint32, needed),
            _taken(self._size, np.uint32, needed),
            _taken(self._codec, np.uint8, needed),
            np.asarray([len(bases) for bases in base_lists] or np.zeros(len(needed)), np.uint8),
            place.of([base for bases in base_lists for base in bases]),
        )
        return table, place.of(rows)


def _each_once(rows: U32) -> U32:
    """In the order in which they come first."""
    _, firsts = np.unique(rows, return_index=True)
    return rows[np.sort(firsts)]


class _Places:
    """Where in a list of rows each of them is: a dictionary of a million rows would take a hundred megabytes."""

    def __init__(self, rows: npt.NDArray[np.int64]) -> None:
        self._by_row = np.argsort(rows)
        self._sorted = rows[self._by_row]

    def of(self, rows: Sequence[int]) -> U32:
        return self._by_row[np.searchsorted(self._sorted, np.asarray(rows, np.int64))].astype(np.uint32)


def _taken(
    column: array[int] | bytearray, dtype: type, rows: npt.NDArray[np.int64], width: int = 1
) -> npt.NDArray[Any]:
    # The view must not outlive this line: a column cannot grow while it is exported.
    return np.frombuffer(column, dtype).reshape((-1, width) if width > 1 else (-1,))[rows]
