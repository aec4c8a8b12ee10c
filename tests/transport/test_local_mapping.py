"""Pages of files take the place of a program's memory, whole pages only, and only where files stay what they are."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from shardflow.transport import PAGE_BYTES, ObjectMissing, StoreURL, connect, local_mapping
from shardflow.transport.local_mapping import map_pages, pages_at_hand

CONTENT = b"".join(bytes([page]) * PAGE_BYTES for page in range(4))


@pytest.fixture
def fd(tmp_path: Path) -> int:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return os.open(path, os.O_RDONLY)


def memory(pages: int) -> memoryview:
    return memoryview(mmap.mmap(-1, pages * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def test_memory_has_what_the_file_has_and_the_rest_of_it_is_as_before(fd: int) -> None:
    room = memory(4)
    room[:] = b"x" * len(room)
    map_pages(fd, 2 * PAGE_BYTES, room[PAGE_BYTES : 3 * PAGE_BYTES])
    assert bytes(room) == b"x" * PAGE_BYTES + CONTENT[2 * PAGE_BYTES :] + b"x" * PAGE_BYTES


@pytest.mark.parametrize(("start", "first", "last"), [(8, 0, PAGE_BYTES), (0, 8, PAGE_BYTES), (0, 0, PAGE_BYTES - 8)])
def test_what_is_no_whole_page_is_refused(fd: int, start: int, first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no whole pages"):
        map_pages(fd, start, memory(2)[first:last])


def test_what_the_system_refuses_is_an_error(fd: int) -> None:
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        map_pages(fd, 0, memory(1))


def test_disks_of_this_machine_are_mapped_and_network_disks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pages_at_hand(tmp_path)
    monkeypatch.setattr(local_mapping, "kind_of_file_system", lambda _: 0x6969)  # NFS
    assert not pages_at_hand(tmp_path)


def test_only_pages_that_a_file_fills_are_mapped(tmp_path: Path) -> None:
    place = connect(StoreURL.parse(str(tmp_path / "store")))
    place.write("some", CONTENT[: 2 * PAGE_BYTES + 1])
    assert place.map_pages("some", 0, memory(3)), "the last page has a byte of the file"
    assert not place.map_pages("some", 0, memory(4))
    with pytest.raises(ObjectMissing):
        place.map_pages("other", 0, memory(1))
