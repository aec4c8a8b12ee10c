"""Reads chunks from packs: few large ranges instead of many small ones, each chunk decoded and verified."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
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
    for row in rows:
        batch.append(row)
        total += int(table.stored[row])
        if total >= SORTED_BYTES:
            yield from _merged(table, batch)
            batch, total = [], 0
    yield from _merged(table, batch)


def _merged(table: ChunkTable, rows: list[int]) -> Iterator[Range]:
    rows.sort(key=lambda row: (int(table.pack[row]), int(table.offset[row])))
    together: list[int] = []
    pack = start = end = 0
    for row in rows:
        offset, length = int(table.offset[row]), int(table.stored[row])
        near = together and table.pack[row] == pack and offset - end <= GAP_BYTES
        if together and not (near and offset + length - start <= READ_BYTES):
            yield Range(table.packs[pack], start, end, tuple(together))
            together = []
        if not together:
            pack, start, end = int(table.pack[row]), offset, offset
        together.append(row)
        end = max(end, offset + length)
    if together:
        yield Range(table.packs[pack], start, end, tuple(together))


def chunks_of(transport: Transport, table: ChunkTable, wanted: Range, name: str) -> Iterator[tuple[int, memoryview]]:
    """The verified chunks of a range, each valid until the next one is asked for."""
    try:
        data = _read(transport, wanted, name)
    except Truncated as error:
        if len(wanted.rows) == 1:
            what = f"the pack is cut short (wanted {error.wanted} bytes at {wanted.start}, got {error.got})"
            raise _damaged(table, wanted.rows[0], name, what) from None
        # What lies before the cut can be read still, and the first chunk behind it gives the error its name.
        for part in (single for row in wanted.rows for single in ranges(table, [row])):
            yield from chunks_of(transport, table, part, name)
        return
    for row in wanted.rows:
        at = int(table.offset[row]) - wanted.start
        stored = data[at : at + int(table.stored[row])]
        try:
            yield row, verified(table, row, stored, name)
        except ChunkDamaged:
            # It may have been altered on its way only: look once more before calling the store damaged.
            again = Range(wanted.pack, wanted.start + at, wanted.start + at + len(stored), (row,))
            yield row, verified(table, row, _read(transport, again, name), name)


def verified(table: ChunkTable, row: int, stored: Buffer, name: str) -> memoryview:
    """Decode one chunk of a file and compare it with its name; the result may be a view of thread-local memory."""
    try:
        return decoded(int(table.codec[row]), stored, table.id(row), int(table.size[row]))
    except CorruptData as error:
        raise _damaged(table, row, name, error.message) from None
    except FormatUnknown as error:
        raise FormatUnknown(f"{name} is {error.message}", remedy=error.remedy) from None


def decoded(kind: int, stored: Buffer, chunk: bytes, size: int) -> memoryview:
    """A chunk from its stored bytes, if they are that chunk; the result may be a view of thread-local memory."""
    if kind not in codec.CodecId.__members__.values():
        raise FormatUnknown(f"stored with codec {kind}, unknown to this version", remedy="upgrade Shardflow")
    if kind == codec.CodecId.RAW and memoryview(stored).nbytes == size:
        data = memoryview(stored).cast("B")
    else:
        data = _scratch_memory()[:size]
        codec.decode(kind, stored, data)
    if blake3(data).digest() != chunk:
        raise CorruptData("its bytes do not match its name")
    return data


def _read(transport: Transport, wanted: Range, name: str) -> memoryview:
    try:
        return memoryview(transport.read_range(pack_key(wanted.pack), wanted.start, wanted.length))
    except ObjectMissing:
        raise PackMissing(
            f"pack {wanted.pack.hex()[:16]} of {name} is not in the store",
            remedy=MEND,
        ) from None


def _damaged(table: ChunkTable, row: int, name: str, what: str) -> ChunkDamaged:
    pack, chunk = table.packs[int(table.pack[row])].hex()[:16], table.id(row).hex()[:16]
    return ChunkDamaged(
        f"chunk {chunk} of {name} in pack {pack} is damaged: {what}",
        remedy=MEND,
    )


def _scratch_memory() -> memoryview:
    memory: memoryview | None = getattr(_scratch, "memory", None)
    if memory is None:
        memory = _scratch.memory = buffer(MAX_CHUNK_BYTES)
    return memory
