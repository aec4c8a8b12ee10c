"""Reads chunks from packs: few large ranges instead of many small ones, each chunk decoded and verified."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3
from typing_extensions import Buffer

from shardflow import codec
from shardflow.errors import CorruptData
from shardflow.store.errors import ChunkDamaged, FormatUnknown, PackMissing
from shardflow.store.manifest import ChunkTable
from shardflow.store.memory import buffer
from shardflow.store.pack import MAX_CHUNK_BYTES, pack_key
from shardflow.transport import ObjectMissing, Transport, Truncated

READ_BYTES = 8 << 20
PLAIN_BYTES = 64 << 20  # of the chunks in one range: small differences of large chunks are not all for one thread
SORTED_BYTES = 32 << 20
GAP_BYTES = 64 << 10
MEND = "run 'shardflow fsck --read-data --repair', then put the file again"

_scratch = threading.local()


@dataclass(frozen=True, slots=True)
class Range:
    """A part of one pack that holds the chunks of these rows."""

    pack: bytes
    start: int
    end: int
    rows: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.end - self.start


def ranges(table: ChunkTable, rows: Iterable[int]) -> Iterator[Range]:
    """Few ranges that cover the rows, roughly in their order: neighbours in a pack are read together."""
    batch: list[int] = []
    total = 0
    waited: tuple[int, ...] = ()
    for row in rows:
        batch.append(row)
        total += int(table.stored[row])
        if total >= SORTED_BYTES:
            *full, last = _merged(table, batch)
            yield from full
            # What is left over is most often small, and goes on in the next rows; but none waits twice.
            if set(waited).isdisjoint(last.rows):
                waited, batch, total = last.rows, list(last.rows), last.length
            else:
                yield last
                waited, batch, total = (), [], 0
    yield from _merged(table, batch)


def _merged(table: ChunkTable, rows: list[int]) -> Iterator[Range]:
    rows.sort(key=lambda row: (int(table.pack[row]), int(table.offset[row])))
    together: list[int] = []
    pack = start = end = plain = 0
    for row in rows:
        offset, length, size = int(table.offset[row]), int(table.stored[row]), int(table.size[row])
        near = together and table.pack[row] == pack and offset - end <= GAP_BYTES
        if together and not (near and offset + length - start <= READ_BYTES and plain + size <= PLAIN_BYTES):
            yield Range(table.packs[pack], start, end, tuple(together))
            together = []
        if not together:
            pack, start, end, plain = int(table.pack[row]), offset, offset, 0
        together.append(row)
        plain += size
        end = max(end, offset + length)
    if together:
        yield Range(table.packs[pack], start, end, tuple(together))


def verified(
    table: ChunkTable,
    row: int,
    stored: Buffer,
    name: str,
    bases: Sequence[Buffer] = (),
    place: memoryview | None = None,
    *,
    sure: bool = True,
) -> memoryview:
    """Decode one chunk of a file and compare it with its name, unless it need not be `sure`; see `decoded`."""
    chunk = table.id(row) if sure else None
    try:
        return decoded(int(table.codec[row]), stored, chunk, int(table.size[row]), bases, place)
    except CorruptData as error:
        raise damaged(table, row, name, error.message) from None
    except FormatUnknown as error:
        raise FormatUnknown(f"{name} is {error.message}", remedy=error.remedy) from None


def decoded(
    kind: int,
    stored: Buffer,
    chunk: bytes | None,
    size: int,
    bases: Sequence[Buffer] = (),
    place: memoryview | None = None,
) -> memoryview:
    """A chunk from its stored bytes, if they are that chunk; without its name, whatever they make.

    It is decoded where it is to be, if a place of its size is given (and may be there already if it is stored plainly),
    and otherwise into memory of this thread that the next one overwrites.
    """
    if kind not in codec.CodecId.__members__.values():
        raise FormatUnknown(f"stored with codec {kind}, unknown to this version", remedy="upgrade Shardflow")
    if (place is None or place is stored) and kind == codec.CodecId.RAW and memoryview(stored).nbytes == size:
        data = memoryview(stored).cast("B")
    else:
        data = place if place is not None else _scratch_memory()[:size]
        codec.decode(kind, stored, data, bases)
    if chunk is not None and blake3(data).digest() != chunk:
        raise CorruptData("its bytes do not match its name")
    return data


def read_stored(transport: Transport, wanted: Range, name: str) -> memoryview:
    """The stored bytes of a range."""
    try:
        return memoryview(transport.read_range(pack_key(wanted.pack), wanted.start, wanted.length))
    except ObjectMissing:
        raise _pack_missing(wanted, name) from None


def parted(table: ChunkTable, wanted: Range, data: memoryview) -> dict[int, memoryview]:
    """The stored bytes of a range by row."""
    at = [(row, int(table.offset[row]) - wanted.start) for row in wanted.rows]
    return {row: data[start : start + int(table.stored[row])] for row, start in at}


def read_stored_into(transport: Transport, wanted: Range, parts: Sequence[memoryview], name: str) -> None:
    """The stored bytes of a range whose chunks lie back to back, each into its part."""
    try:
        transport.read_into(pack_key(wanted.pack), wanted.start, parts)
    except ObjectMissing:
        raise _pack_missing(wanted, name) from None


def _pack_missing(wanted: Range, name: str) -> PackMissing:
    return PackMissing(f"pack {wanted.pack.hex()[:16]} of {name} is not in the store", remedy=MEND)


def cut_short(table: ChunkTable, wanted: Range, name: str, error: Truncated) -> ChunkDamaged:
    what = f"the pack is cut short (wanted {error.wanted} bytes at {wanted.start}, got {error.got})"
    return damaged(table, wanted.rows[0], name, what)


def damaged(table: ChunkTable, row: int, name: str, what: str) -> ChunkDamaged:
    pack, chunk = table.packs[int(table.pack[row])].hex()[:16], table.id(row).hex()[:16]
    return ChunkDamaged(f"chunk {chunk} of {name} in pack {pack} is damaged: {what}", remedy=MEND)


def _scratch_memory() -> memoryview:
    memory: memoryview | None = getattr(_scratch, "memory", None)
    if memory is None:
        memory = _scratch.memory = buffer(MAX_CHUNK_BYTES)
    return memory
