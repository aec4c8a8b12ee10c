"""Packs: immutable objects that hold encoded chunks one after the other, and an index of them at the end.

    magic (8)  salt (16)  encoded chunks ...  index (msgpack)  index length (u32 LE)  BLAKE3 of index (32)  magic (8)

A pack's name is the BLAKE3 of all its bytes. Because the index travels with the data, every list of what is where can
be rebuilt from the packs alone. The salt is zero, save in a pack that must not collide with one marked for deletion.

A large chunk that is stored as it is begins where pages are divided as they are in its file, after zeros if need be:
what is in a row in the file can be mapped into memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec
from blake3 import blake3
from typing_extensions import Buffer

from shardflow.codec import CodecId
from shardflow.loans import copy
from shardflow.store.errors import FormatUnknown, PackDamaged
from shardflow.store.memory import buffer

HEAD_MAGIC = b"SHFLPK\x00\x01"
TAIL_MAGIC = b"SHFLIX\x00\x01"
HEAD_BYTES = 24
TAIL_BYTES = 44
NO_SALT = bytes(16)
ENTRY_BYTES = 56  # of the index for a chunk, at most
BASE_BYTES = 34
PAGE_BYTES = 4096
PAGED_BYTES = 1 << 20  # a chunk of that size, stored as it is, lies in its pack as in its file, as far as pages go
SLACK_BYTES = (4 << 20) + (1 << 20)  # a single chunk may be as large as a whole pack should be
MAX_INDEX_BYTES = 64 << 20
MAX_CHUNK_BYTES = 4 << 20
MAX_OFFSET = (1 << 32) - 1  # manifests keep offsets in 32 bits


class PackEntry(msgspec.Struct, frozen=True, array_like=True):
    """Where one chunk lies in its pack, and how it is encoded."""

    chunk: bytes  # BLAKE3 of the decoded bytes
    offset: int
    stored: int
    size: int
    codec: int
    bases: tuple[bytes, ...] = ()  # chunks that must be decoded first


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[PackEntry])


@dataclass(frozen=True, slots=True)
class FinishedPack:
    """A pack ready to be sent: its name, its bytes, and what is in it."""

    id: bytes
    data: memoryview
    entries: tuple[PackEntry, ...]


class PackBuilder:
    """Collects encoded chunks in one buffer, which may be used again once the finished pack has been sent."""

    def __init__(self, target: int, memory: memoryview | None = None, salt: bytes = NO_SALT) -> None:
        self.target = target
        self.memory = buffer(target + SLACK_BYTES) if memory is None else memory
        self._view = memoryview(self.memory)
        self._view[:8] = HEAD_MAGIC
        self._view[8:HEAD_BYTES] = salt
        self._end = HEAD_BYTES
        self._entries: list[PackEntry] = []
        self._index_bytes = 5

    @property
    def empty(self) -> bool:
        return not self._entries

    def fits(self, stored: int) -> bool:
        """Whether a chunk can be added without passing the target (an empty pack takes any chunk)."""
        end = self._end + stored + (PAGE_BYTES if stored >= PAGED_BYTES else 0)
        return self.empty or end + self._index_bytes + ENTRY_BYTES + TAIL_BYTES <= self.target

    def add(
        self,
        chunk: bytes,
        size: int,
        codec: int,
        parts: tuple[Buffer, ...],
        bases: tuple[bytes, ...] = (),
        at: int | None = None,
    ) -> int:
        """Append a chunk; returns its offset. `at` says where it lies in its file."""
        stored = sum(memoryview(part).nbytes for part in parts)
        if at is not None and codec == CodecId.RAW and stored >= PAGED_BYTES:
            self._pad((at - self._end) % PAGE_BYTES)
        offset = self._end
        for part in parts:
            length = memoryview(part).nbytes
            copy(part, self._view[self._end : self._end + length])
            self._end += length
        self._entries.append(PackEntry(chunk, offset, stored, size, codec, bases))
        self._index_bytes += ENTRY_BYTES + BASE_BYTES * len(bases)
        return offset

    def _pad(self, length: int) -> None:
        self._view[self._end : self._end + length] = bytes(length)
        self._end += length

    def finish(self) -> FinishedPack:
        """Write the index and name the pack; the data is a view of this builder's buffer."""
        index = _encoder.encode(self._entries)
        tail = index + struct.pack("<I", len(index)) + blake3(index).digest() + TAIL_MAGIC
        self._view[self._end : self._end + len(tail)] = tail
        data = self._view[: self._end + len(tail)]
        return FinishedPack(blake3(data).digest(), data, tuple(self._entries))


def pack_key(pack: bytes) -> str:
    name = pack.hex()
    return f"packs/{name[:2]}/{name}"


def pack_of_key(key: str) -> bytes | None:
    """The pack a key names, or None for a foreign object."""
    try:
        pack = bytes.fromhex(key.rsplit("/", 1)[-1])
    except ValueError:
        return None
    return pack if len(pack) == 32 and key == pack_key(pack) else None


def index_span(pack: bytes, size: int, tail: Buffer) -> tuple[int, int]:
    """Offset and length of the index, from a pack's last TAIL_BYTES bytes."""
    tail = memoryview(tail)
    if size < HEAD_BYTES + TAIL_BYTES or tail.nbytes != TAIL_BYTES:
        raise _damaged(pack, f"is {size} bytes long, too short to be a pack")
    magic = bytes(tail[36:])
    if magic[:6] == TAIL_MAGIC[:6] and magic != TAIL_MAGIC:
        raise FormatUnknown(f"pack {pack.hex()[:16]} has a format from the future", remedy="upgrade Shardflow")
    (length,) = struct.unpack("<I", tail[:4])
    if magic != TAIL_MAGIC or length > min(MAX_INDEX_BYTES, size - HEAD_BYTES - TAIL_BYTES):
        raise _damaged(pack, "does not end as a pack does (truncated or overwritten)")
    return size - TAIL_BYTES - length, length


def read_index(pack: bytes, size: int, index: Buffer, tail: Buffer) -> list[PackEntry]:
    """The entries of a pack from its index and tail, checked against each other and the pack's size."""
    start, length = index_span(pack, size, tail)
    if memoryview(index).nbytes != length or blake3(index).digest() != bytes(memoryview(tail)[4:36]):
        raise _damaged(pack, "has an index that fails its digest")
    try:
        entries = _decoder.decode(index)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _damaged(pack, f"has an index that does not parse ({error})") from None
    for entry in entries:
        if entry.offset < HEAD_BYTES or entry.offset + entry.stored > min(start, MAX_OFFSET):
            raise _damaged(pack, "has an index that points outside of it")
        if not _plausible(entry):
            raise _damaged(pack, "has an index with a name, a size or a codec that cannot be")
    return entries


def check_whole(pack: bytes, data: Buffer) -> list[PackEntry]:
    """Verify every byte of a pack against its name; returns its entries."""
    view = memoryview(data)
    if blake3(view).digest() != pack:
        raise _damaged(pack, "has bytes that are not those it is named by")
    if bytes(view[:8]) != HEAD_MAGIC:
        raise FormatUnknown(f"pack {pack.hex()[:16]} has a format from the future", remedy="upgrade Shardflow")
    start, length = index_span(pack, view.nbytes, view[-TAIL_BYTES:])
    return read_index(pack, view.nbytes, view[start : start + length], view[-TAIL_BYTES:])


def _plausible(entry: PackEntry) -> bool:
    return (
        all(len(name) == 32 for name in (entry.chunk, *entry.bases))
        and 0 <= entry.stored <= MAX_CHUNK_BYTES
        and 0 <= entry.size <= MAX_CHUNK_BYTES
        and 0 <= entry.codec < 256
    )


def _damaged(pack: bytes, what: str) -> PackDamaged:
    return PackDamaged(f"pack {pack.hex()[:16]} {what}", remedy="run 'shardflow fsck' to see which files need it")
