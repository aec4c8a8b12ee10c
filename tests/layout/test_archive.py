"""Zip archives: members found where they are, also beyond 4 GiB, and no directory believed without proof."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from layout.listing import layout_of, reader_of
from layout.torch_files import Storage, View, checkpoint, pickle_of
from shardflow.layout import inspect
from shardflow.layout.archive import content, members, start_of
from shardflow.layout.model import Damaged

if TYPE_CHECKING:
    from pathlib import Path

WIDE = 0xFFFFFFFF


def zip_of(**contents: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as target:
        for name, body in contents.items():
            target.writestr(name, body)
        target.comment = b"a comment after the end"
    return held.getvalue()


def local(name: bytes) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, WIDE, WIDE, len(name), 0) + name


def central(name: bytes, length: int, header: int) -> bytes:
    extra = struct.pack("<HHQQQ", 1, 24, length, length, header)
    fields = (45, 45, 0, 0, 0, 0, 0, WIDE, WIDE, len(name), len(extra), 0, 0, 0, 0, WIDE)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + name + extra


def end64(count: int, length: int, offset: int) -> bytes:
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + length, 1)
    return record + locator + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, WIDE, WIDE, 0)


def test_members_are_found_in_the_order_of_the_directory() -> None:
    data = zip_of(first=b"one", second=b"", third=b"three")
    read_at = reader_of(data)
    found = members(read_at, len(data))
    assert list(found) == ["first", "second", "third"]
    assert [content(read_at, len(data), member, 100) for member in found.values()] == [b"one", b"", b"three"]
    start = start_of(read_at, len(data), found["third"])
    assert data[start : start + 5] == b"three"


def test_a_member_larger_than_asked_for_is_not_read() -> None:
    data = zip_of(large=b"12345")
    read_at = reader_of(data)
    with pytest.raises(Damaged):
        content(read_at, len(data), members(read_at, len(data))["large"], 4)


def test_a_checkpoint_beyond_4_gib_is_listed_through_its_zip64_records(tmp_path: Path) -> None:
    large, elements = 5 << 30, (5 << 30) // 4
    tree = {"huge": View(Storage("0", elements=elements), (elements,)), "tail": View(Storage("1", elements=1), (1,))}
    pieces = [(b"a/data/0", b"", large), (b"a/data/1", b"tail", 4), (b"a/data.pkl", pickle_of(tree), 0)]
    path = tmp_path / "sparse.pt"
    directory = b""
    with path.open("wb") as target:
        for name, body, length in pieces:
            directory += central(name, length or len(body), target.tell())
            target.write(local(name))
            target.write(body) if body else target.seek(length, io.SEEK_CUR)
        offset = target.tell()
        target.write(directory + end64(len(pieces), len(directory), offset))
        size = target.tell()
    with path.open("rb") as source:

        def read_at(offset: int, length: int) -> bytes:
            source.seek(offset)
            return source.read(length)

        layout = inspect(read_at, size)
        tail = next(at for at in layout.segments if at.name == "tail")
        assert read_at(tail.offset, tail.length) == b"tail"
    assert [(at.name, at.length) for at in layout.segments if at.name] == [("huge", large), ("tail", 4)]


def spoiled(data: bytes, signature: bytes, at: int, value: bytes) -> bytes:
    start = data.index(signature) + at
    return data[:start] + value + data[start + len(value) :]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("signature", "at", "value"),
    [
        (LOCAL, 8, b"\x08"),  # compressed after all
        (LOCAL, 26, b"\xff\xff"),  # name length
        (LOCAL, 28, b"\xff\xff"),  # extra length
        (LOCAL, 30, b"other"),  # name
        (CENTRAL, 8, b"\x01"),  # encrypted
        (CENTRAL, 10, b"\x08"),  # compressed
        (CENTRAL, 24, b"\xfe\xff\xff\xff"),  # length
        (CENTRAL, 20, b"\xff\xff\xff\xff"),  # packed length in a zip64 field that is not there
        (CENTRAL, 42, b"\xfe\xff\xff\xff"),  # header offset
        (CENTRAL, 28, b"\xff\xff"),  # name length
        (END, 12, b"\xff\xff\xff\xff"),  # directory length
        (END, 12, b"\x05"),
        (END, 16, b"\xfe\xff\xff\xff"),  # directory offset
        (END, 0, b"XX"),
    ],
)
def test_records_that_contradict_each_other_make_the_file_plain(signature: bytes, at: int, value: bytes) -> None:
    good = checkpoint({"w": View(Storage("0", elements=1), (1,))}, {"0": b"abcd"})
    assert layout_of(good).kind == "torch"
    assert layout_of(spoiled(good, signature, at, value)).kind == "plain"


def test_a_zip64_locator_that_points_anywhere_makes_the_file_plain() -> None:
    good = zip_of(a=b"x")
    at = good.index(END)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 2**63, 1)
    assert layout_of(good[:at] + locator + good[at:]).kind == "plain"


def test_a_directory_of_a_gigabyte_is_not_read() -> None:
    size = 2 << 30
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 1, 1, 1 << 30, 0, 0)
    asked = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        return (LOCAL.ljust(length, b"\0") if offset == 0 else end.rjust(length, b"\0"))[:length]

    assert inspect(read_at, size).kind == "plain"
    assert sum(asked) < 100_000
