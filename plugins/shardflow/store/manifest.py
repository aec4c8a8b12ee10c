"""Manifests: everything needed to read one stored file, in one object.

    magic (8)  BLAKE3 of magic and frame (32)  zstd frame of a msgpack map

A manifest lists the packs it needs, a table of chunks (for each: name, pack, offset, stored length, size, codec, and
the earlier rows it is coded against), and the sequence of rows that makes up the file. The table is kept in columns:
it compresses well, and a file of a million chunks loads without a million Python objects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard
from blake3 import blake3
from typing_extensions import Buffer

from shardflow.store.errors import FormatUnknown, ManifestDamaged
from shardflow.store.pack import HEAD_BYTES, MAX_CHUNK_BYTES

MAGIC = b"SHFLMF\x00\x01"
HEAD = 40
MAX_BODY_BYTES = 512 << 20
CHUNK_NAME_BYTES = 32
NEVER = 1 << 37  # in the year 6325; there is a date for every time before, wherever on earth it is shown

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """One row a chunk, in columns; rows come after the rows they are coded against."""

    packs: tuple[bytes, ...]
    chunk: U8  # (rows, 32)
    pack: U32  # index into packs
    offset: U32
    stored: U32
    size: U32
    codec: U8
    base_count: U8
    base: U32  # the bases of all rows, one after another

    def __len__(self) -> int:
        return len(self.pack)

    def id(self, row: int) -> bytes:
        name: bytes = self.chunk[row].tobytes()
        return name

    def ids(self) -> list[bytes]:
        """The names of all rows."""
        names = self.chunk.tobytes()
        return [names[start : start + CHUNK_NAME_BYTES] for start in range(0, len(names), CHUNK_NAME_BYTES)]

    def bases(self, row: int) -> tuple[int, ...]:
        if not len(self.base):
            return ()
        start = int(self.base_count[:row].sum(dtype=np.int64))
        return tuple(int(base) for base in self.base[start : start + int(self.base_count[row])])


def empty_table() -> ChunkTable:
    none = np.zeros(0, np.uint32)
    byte = np.zeros(0, np.uint8)
    return ChunkTable((), np.zeros((0, 32), np.uint8), none, none, none, none, byte, byte, none)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One stored file (or a directory with nothing in it)."""

    size: int
    digest: bytes  # BLAKE3 of the whole file
    kind: Literal["file", "directory"] = "file"
    created: float = field(default_factory=time.time)
    layout: str = "plain"
    features: tuple[str, ...] = ()  # what the file is hinted under, so that hints can be made anew
    md5: bytes | None = None  # of the whole file, where its writer was asked for it
    sha256: bytes | None = None  # the same
    inline: bytes | None = None  # the content itself, when it is small
    table: ChunkTable = field(default_factory=empty_table)
    sequence: U32 = field(default_factory=lambda: np.zeros(0, np.uint32))


def ends_of(manifest: Manifest) -> npt.NDArray[np.int64]:
    """Where each chunk of a file ends."""
    return np.cumsum(manifest.table.size.astype(np.int64)[manifest.sequence.astype(np.int64)])


_NOTHING = memoryview(b"")


class _Body(msgspec.Struct, omit_defaults=True):
    """The msgpack map; columns are little-endian bytes. Unknown keys are ignored, so additions stay readable."""

    size: int
    digest: bytes
    created: float
    kind: Literal["file", "directory"] = "file"
    layout: str = "plain"
    features: tuple[str, ...] = ()
    md5: bytes | None = None
    sha256: bytes | None = None
    inline: bytes | None = None
    packs: list[bytes] = []
    # Views of what was read: a file of a million chunks should not be in memory twice.
    chunk: memoryview = _NOTHING
    pack: memoryview = _NOTHING
    offset: memoryview = _NOTHING
    stored: memoryview = _NOTHING
    length: memoryview = _NOTHING
    codec: memoryview = _NOTHING
    base_count: memoryview = _NOTHING
    base: memoryview = _NOTHING
    sequence: memoryview = _NOTHING


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)
_of_thread = threading.local()


def encode_manifest(manifest: Manifest) -> bytes:
    table = manifest.table
    body = _Body(
        size=manifest.size,
        digest=manifest.digest,
        created=manifest.created,
        kind=manifest.kind,
        layout=manifest.layout,
        features=manifest.features,
        md5=manifest.md5,
        sha256=manifest.sha256,
        inline=manifest.inline,
        packs=list(table.packs),
        chunk=_column(table.chunk),
        pack=_u32_column(table.pack),
        offset=_u32_column(table.offset),
        stored=_u32_column(table.stored),
        length=_u32_column(table.size),
        codec=_column(table.codec),
        base_count=_column(table.base_count) if len(table.base) else _NOTHING,
        base=_u32_column(table.base),
        sequence=_u32_column(manifest.sequence),
    )
    frame = _deflater().compress(_encoder.encode(body))
    return MAGIC + _digest(MAGIC, frame) + frame


def decode_manifest(data: Buffer, name: str) -> Manifest:
    """Parse and check a manifest; every error names it."""
    with _told(name):
        manifest = _from_body(_body_in(data, name))
        _validate(manifest)
    return manifest


class Contents(NamedTuple):
    """What a stored file is made of, wherever that lies."""

    kind: Literal["file", "directory"]
    size: int
    digest: bytes
    sha256: bytes | None
    inline: bytes | None
    names: bytes  # of its chunks, in the order of the file


def decode_contents(data: Buffer, name: str) -> Contents:
    """A part of what `decode_manifest` gives, in a third of the time: where chunks lie is neither told nor checked."""
    with _told(name):
        body = _body_in(data, name)
        if len(body.chunk) % CHUNK_NAME_BYTES:
            raise ValueError("a name of a chunk is malformed")
        sequence = _u32(body.sequence)
        if len(sequence) and int(sequence.max()) >= len(body.chunk) // CHUNK_NAME_BYTES:
            raise ValueError("its sequence names a chunk that is not in its table")
        names = np.frombuffer(body.chunk, np.uint8).reshape(-1, CHUNK_NAME_BYTES)[sequence].tobytes()
    return Contents(body.kind, body.size, body.digest, body.sha256, body.inline, names)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What a parser says, as an error that names the manifest."""
    try:
        yield
    except (msgspec.MsgspecError, zstandard.ZstdError, ValueError, RecursionError) as error:
        raise _damaged(name, f"is not valid: {error}") from None


def _body_in(data: Buffer, name: str) -> _Body:
    view = memoryview(data)
    magic = bytes(view[:8])
    if magic[:6] != MAGIC[:6] or view.nbytes < HEAD:
        raise _damaged(name, "is not a manifest (truncated or overwritten)")
    if _digest(magic, view[HEAD:]) != bytes(view[8:HEAD]):
        raise _damaged(name, "fails its digest")
    if magic != MAGIC:
        raise FormatUnknown(f"{name} is stored in a format from the future", remedy="upgrade Shardflow")
    return _decoder.decode(_inflate(view[HEAD:]))


def _digest(magic: bytes, frame: Buffer) -> bytes:
    digest = blake3(magic)
    digest.update(frame)
    return digest.digest()


def _inflate(frame: memoryview) -> bytes:
    declared = zstandard.frame_content_size(frame)
    if not 0 <= declared <= MAX_BODY_BYTES:
        raise ValueError(f"declares {declared} bytes, over the limit of {MAX_BODY_BYTES}")
    return _inflater().decompress(frame, max_output_size=declared)


def _deflater() -> zstandard.ZstdCompressor:
    """Of this thread: to make one takes three times as long as to use it on a small manifest."""
    made: zstandard.ZstdCompressor | None = getattr(_of_thread, "deflater", None)
    if made is None:
        made = _of_thread.deflater = zstandard.ZstdCompressor(level=3)
    return made


def _inflater() -> zstandard.ZstdDecompressor:
    """Of this thread: to make one takes as long as a small manifest does."""
    made: zstandard.ZstdDecompressor | None = getattr(_of_thread, "inflater", None)
    if made is None:
        made = _of_thread.inflater = zstandard.ZstdDecompressor()
    return made


def _from_body(body: _Body) -> Manifest:
    rows = len(body.codec)
    pack, offset, stored, size = (_u32(column) for column in (body.pack, body.offset, body.stored, body.length))
    if any(len(column) != rows for column in (pack, offset, stored, size)) or len(body.chunk) != 32 * rows:
        raise ValueError("its columns differ in length")
    base_count = np.frombuffer(body.base_count, np.uint8) if body.base_count else np.zeros(rows, np.uint8)
    table = ChunkTable(
        tuple(body.packs),
        np.frombuffer(body.chunk, np.uint8).reshape(rows, 32),
        pack,
        offset,
        stored,
        size,
        np.frombuffer(body.codec, np.uint8),
        base_count,
        _u32(body.base),
    )
    return Manifest(
        size=body.size,
        digest=body.digest,
        kind=body.kind,
        created=body.created,
        layout=body.layout,
        features=body.features,
        md5=body.md5,
        sha256=body.sha256,
        inline=body.inline,
        table=table,
        sequence=_u32(body.sequence),
    )


def _validate(manifest: Manifest) -> None:
    table, rows = manifest.table, len(manifest.table)
    if manifest.size < 0 or len(manifest.digest) != 32 or any(len(pack) != 32 for pack in table.packs):
        raise ValueError("a size or a digest is malformed")
    if manifest.md5 is not None and len(manifest.md5) != 16:
        raise ValueError("its MD5 is malformed")
    if manifest.sha256 is not None and len(manifest.sha256) != 32:
        raise ValueError("its SHA-256 is malformed")
    if not 0 <= manifest.created < NEVER:
        raise ValueError("its time of creation is none")
    if rows and (table.pack.max() >= len(table.packs) or table.offset.min() < HEAD_BYTES):
        raise ValueError("a chunk lies outside every pack")
    if rows and max(table.size.max(), table.stored.max()) > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk is larger than {MAX_CHUNK_BYTES} bytes")
    if len(manifest.sequence) and manifest.sequence.max() >= rows:
        raise ValueError("its sequence names a chunk that is not in its table")
    _validate_bases(table)
    content = len(manifest.inline) if manifest.inline is not None else int(table.size[manifest.sequence].sum())
    if content != manifest.size or (manifest.inline is not None and rows):
        raise ValueError(f"its chunks make {content} bytes, and it says {manifest.size}")


def _validate_bases(table: ChunkTable) -> None:
    if len(table.base_count) != len(table) or int(table.base_count.sum(dtype=np.int64)) != len(table.base):
        raise ValueError("its bases differ in number")
    if not len(table.base):
        return
    owners = np.repeat(np.arange(len(table), dtype=np.uint32), table.base_count)
    if (table.base >= owners).any():
        raise ValueError("a chunk is coded against one that does not come before it")


def _u32(data: memoryview) -> U32:
    return np.frombuffer(data, "<u4").astype(np.uint32, copy=False)


def _column(values: npt.NDArray[np.generic]) -> memoryview:
    return memoryview(values.tobytes()) if values.size else _NOTHING  # the default itself is left out


def _u32_column(values: U32) -> memoryview:
    return _column(values.astype("<u4", copy=False))


def _damaged(name: str, what: str) -> ManifestDamaged:
    return ManifestDamaged(
        f"the manifest of {name} {what}", remedy="put the file again, or run 'shardflow fsck' to see what is affected"
    )
