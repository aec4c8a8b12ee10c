"""Patch files: what leads from one version to another, with the checksums of both.

    magic (8)  payload  zstd frame of a msgpack map  length of the frame (8)  BLAKE3 of magic and frame (32)

The map lists the files of the older version with their digests, and for each file of the newer one the rows of chunks
that make it. A row is a run of an older file, or lies in the payload, encoded by itself or against runs and other rows.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec
import zstandard
from blake3 import blake3

from shardflow.errors import CorruptData, ShardflowError
from shardflow.store.errors import BadPath
from shardflow.store.pack import MAX_CHUNK_BYTES
from shardflow.store.paths import normal

MAGIC = b"SHFLPT\x00\x01"
FOOT = struct.Struct("<Q32s")
MOST_DIRECTORY_BYTES = 512 << 20
MOST_BASE_BYTES = 64 << 20  # that one chunk rests on
COPY = 255  # in place of a codec: the row is a run of an older file

MAKE_AGAIN = "make the patch again, or fetch it again from where it came"


class PatchDamaged(CorruptData):
    """A patch is not what was written."""


class WrongSource(ShardflowError):
    """A patch is for something else than what it is to be applied to."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One chunk: where it is and how it is coded. A base is (file, offset, length), or (-1, row, 0) for a row."""

    digest: bytes
    size: int
    codec: int
    offset: int  # in the payload; for a copy, in the older file
    stored: int  # bytes of payload; 0 for a copy
    file: int = -1  # of a copy: which older file
    bases: tuple[tuple[int, int, int], ...] = ()


class OldFile(msgspec.Struct, frozen=True):
    """A file that must be there."""

    path: str
    size: int
    digest: bytes


class NewFile(msgspec.Struct, frozen=True):
    """A file that will be there; `rows` make it, in order. Rows between them may serve as bases only."""

    path: str
    size: int
    digest: bytes
    rows: tuple[int, ...]


class Directory(msgspec.Struct, frozen=True):
    """All that a patch says but for the payload."""

    old: tuple[OldFile, ...]
    new: tuple[NewFile, ...]
    rows: tuple[Row, ...]
    single: bool  # one file leads to one file, whatever they are called


def write_directory(file: BinaryIO, directory: Directory) -> None:
    """End a patch whose payload has been written."""
    frame = zstandard.ZstdCompressor(level=9).compress(msgspec.msgpack.encode(directory))
    file.write(frame + FOOT.pack(len(frame), blake3(MAGIC + frame).digest()))


def read_directory(file: BinaryIO, name: str) -> Directory:
    """The directory of a patch, checked; nothing is believed of it before its digest fits."""
    size = file.seek(0, 2)
    if size < len(MAGIC) + FOOT.size:
        raise _damaged(name, "it is too short to be one")
    file.seek(0)
    magic = file.read(len(MAGIC))
    if magic[:6] != MAGIC[:6]:
        raise _damaged(name, "it does not begin like one")
    if magic != MAGIC:
        raise ShardflowError(f"{name} is a patch of a newer format", remedy="upgrade Shardflow")
    file.seek(size - FOOT.size)
    length, digest = FOOT.unpack(file.read(FOOT.size))
    payload_end = size - FOOT.size - length
    if payload_end < len(MAGIC):
        raise _damaged(name, "its end does not fit, as if it were cut short")
    file.seek(payload_end)
    frame = file.read(length)
    if blake3(MAGIC + frame).digest() != digest:
        raise _damaged(name, "its directory does not match its digest")
    try:
        directory = msgspec.msgpack.decode(_inflated(frame), type=Directory)
        _validate(directory, payload_end)
    except (msgspec.MsgspecError, zstandard.ZstdError, ValueError, RecursionError, BadPath) as error:
        raise _damaged(name, str(error)) from None
    return directory


def _inflated(frame: bytes) -> bytes:
    declared = zstandard.frame_content_size(frame)
    if not 0 <= declared <= MOST_DIRECTORY_BYTES:
        raise ValueError(f"its directory declares {declared} bytes")
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=declared)


def _validate(directory: Directory, payload_end: int) -> None:
    for number, row in enumerate(directory.rows):
        _validate_row(directory, number, row, payload_end)
    for old in directory.old:
        _validate_path(old.path, single=directory.single)
    seen: set[str] = set()
    for new in directory.new:
        _validate_path(new.path, single=directory.single)
        if new.path in seen:
            raise ValueError(f"it has {new.path!r} twice")
        seen.add(new.path)
        if not all(0 <= row < len(directory.rows) for row in new.rows):
            raise ValueError("a file names a chunk that is not there")
        if sum(directory.rows[row].size for row in new.rows) != new.size:
            raise ValueError(f"the chunks of {new.path!r} do not make its size")
    if directory.single and (len(directory.old), len(directory.new)) != (1, 1):
        raise ValueError("it says to be of one file, and is not")


def _validate_row(directory: Directory, number: int, row: Row, payload_end: int) -> None:
    if len(row.digest) != 32 or not 0 <= row.size <= MAX_CHUNK_BYTES:
        raise ValueError(f"chunk {number} is malformed")
    if row.codec == COPY:
        _validate_run(directory, row.file, row.offset, row.size)
        return
    if not len(MAGIC) <= row.offset <= row.offset + row.stored <= payload_end or row.stored > MAX_CHUNK_BYTES:
        raise ValueError(f"chunk {number} lies outside of the payload")
    total = 0
    for file, at, length in row.bases:
        if file < 0:
            if not 0 <= at < number or directory.rows[at].bases:
                raise ValueError(f"chunk {number} rests on one that does not come before it by itself")
            total += directory.rows[at].size
        else:
            _validate_run(directory, file, at, length)
            total += length
    if total > MOST_BASE_BYTES:
        raise ValueError(f"chunk {number} rests on {total} bytes")


def _validate_run(directory: Directory, file: int, offset: int, length: int) -> None:
    if not 0 <= file < len(directory.old) or offset < 0 or length < 0:
        raise ValueError("a run lies in no file")
    if offset + length > directory.old[file].size:
        raise ValueError(f"a run lies outside of {directory.old[file].path!r}")


def _validate_path(path: str, *, single: bool) -> None:
    if single:
        if path:
            raise ValueError("a single file has no name of its own")
    elif not path or normal(path) != path:
        raise ValueError(f"{path!r} is no path below a directory")


def _damaged(name: str, what: str) -> PatchDamaged:
    return PatchDamaged(f"{name} is no sound patch: {what}", remedy=MAKE_AGAIN)
