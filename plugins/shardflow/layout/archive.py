"""Where the members of a zip archive lie; nothing is ever unpacked."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shardflow.layout.model import MOST_TENSORS, Damaged, ReadAt, exactly

MAGIC = b"PK\x03\x04"

_LARGEST_DIRECTORY = 32 << 20
_LONGEST_TAIL = 22 + 65535  # the end record and the comment after it

_END = struct.Struct("<4sHHHHIIH")
_LOCATOR64 = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_UNKNOWN = 0xFFFFFFFF  # the value is in the zip64 extra field
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive, as the central directory tells it."""

    name: str
    raw_name: bytes
    header: int  # offset of the local header, after which the content follows
    length: int
    stored: bool  # neither compressed nor encrypted


def members(read_at: ReadAt, size: int) -> dict[str, Member]:
    """All members by name, in the order of the directory."""
    directory = _directory(read_at, size)
    found: dict[str, Member] = {}
    at = 0
    while directory.startswith(b"PK\x01\x02", at):
        fields = _ENTRY.unpack_from(directory, at)
        name_end = at + _ENTRY.size + fields[10]
        extra_end = name_end + fields[11]
        raw_name = directory[at + _ENTRY.size : name_end]
        packed, length, header = _wide(fields, directory[name_end:extra_end])
        stored = fields[4] == 0 and packed == length and not fields[3] & _ENCRYPTED
        member = Member(raw_name.decode("utf-8", "replace"), raw_name, header, length, stored)
        if member.name in found or len(found) >= MOST_TENSORS:
            raise Damaged(f"{member.name!r} occurs twice, or too much does")
        found[member.name] = member
        at = extra_end + fields[12]
    if at != len(directory):
        raise Damaged("the directory ends in the middle of an entry")
    return found


def start_of(read_at: ReadAt, size: int, member: Member) -> int:
    """Where the content of a stored member begins; the whole of it lies in the file."""
    fields = _LOCAL.unpack(exactly(read_at, member.header, _LOCAL.size, size))
    name_at = member.header + _LOCAL.size
    start: int = name_at + fields[9] + fields[10]
    if fields[0] != MAGIC or fields[3] != 0 or start + member.length > size:
        raise Damaged(f"no stored member at {member.header}")
    if exactly(read_at, name_at, fields[9], size) != member.raw_name:
        raise Damaged(f"{member.name!r} has another name in place")
    return start


def content(read_at: ReadAt, size: int, member: Member, most: int) -> bytes:
    """A stored member as a whole, if it is not larger than `most`."""
    if not member.stored or member.length > most:
        raise Damaged(f"{member.name!r} is compressed or too large")
    return exactly(read_at, start_of(read_at, size, member), member.length, size)


def _directory(read_at: ReadAt, size: int) -> bytes:
    length = min(size, _LONGEST_TAIL)
    tail = exactly(read_at, size - length, length, size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise Damaged("no end record")
    fields = _END.unpack_from(tail, at)
    extent, offset = fields[5], fields[6]
    locator = at - _LOCATOR64.size
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        end64 = _LOCATOR64.unpack_from(tail, locator)[2]
        wide = _END64.unpack(exactly(read_at, end64, _END64.size, size))
        if wide[0] != b"PK\x06\x06":
            raise Damaged("no zip64 end record where its locator points")
        extent, offset = wide[8], wide[9]
    if extent > _LARGEST_DIRECTORY:
        raise Damaged(f"a directory of {extent} bytes")
    return exactly(read_at, offset, extent, size)


def _wide(fields: tuple[int, ...], extra: bytes) -> tuple[int, int, int]:
    """Packed length, length and header offset, from the zip64 extra field where the short ones are full."""
    packed, length, header = fields[8], fields[9], fields[16]
    if _UNKNOWN not in {packed, length, header}:
        return packed, length, header
    values = _zip64_values(extra)
    length = values.pop(0) if length == _UNKNOWN else length
    packed = values.pop(0) if packed == _UNKNOWN else packed
    header = values.pop(0) if header == _UNKNOWN else header
    return packed, length, header


def _zip64_values(extra: bytes) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            body = extra[at + 4 : at + 4 + length]
            return [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)]
        at += 4 + length
    return []
