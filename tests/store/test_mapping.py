"""Large parts of a file on this machine's disk are pages of the store's files: the same bytes, verified, no copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardflow.store import mapping, pack
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.manifest import Manifest, ends_of
from shardflow.store.pack import pack_key
from shardflow.transport import PAGE_BYTES, StoreURL, Transport, connect
from shardflow.transport import local as local_module
from store.opening import opened
from store.samples import flipped, in_memory, noise, stored

LARGE = 5 * PAGE_BYTES + 123
TEXT = b"what compresses is not stored as it is. " * 300


@pytest.fixture(autouse=True)
def _small_chunks_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PAGED_BYTES", PAGE_BYTES)
    monkeypatch.setattr(mapping, "WORTH_MAPPING", PAGE_BYTES)


@pytest.fixture
def place(tmp_path: Path) -> Transport:
    return connect(StoreURL.parse(str(tmp_path / "store")))


def laid(place: Transport, chunks: list[bytes], per_pack: int = 3, begin: int = 0) -> Manifest:
    """A file of these chunks, as a writer lays large ones: the first `begin` bytes are in another chunk."""
    return stored(place, [noise(begin, 99), *chunks] if begin else chunks, per_pack=per_pack, paged=True)


def large(count: int, size: int = LARGE) -> list[bytes]:
    return [noise(size + seed, seed) for seed in range(count)]


def mapped(place: Transport, manifest: Manifest, offset: int = 0, length: int | None = None) -> memoryview | None:
    with opened(place, manifest) as found:
        return found.mapped(offset, manifest.size - offset if length is None else length)


@given(
    st.lists(st.one_of(st.integers(1, 4 * PAGE_BYTES), st.just(0)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(0, 2 * PAGE_BYTES),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_mapped_is_what_is_read(place: Transport, sizes: list[int], per_pack: int, begin: int) -> None:
    """Chunks of any sizes, some of them encoded, across any number of packs."""
    chunks = [noise(size, seed) if size else TEXT + bytes([seed]) for seed, size in enumerate(sizes)]
    manifest = laid(place, chunks, per_pack, 8 * begin)
    with opened(place, manifest) as found:
        view = found.mapped(8 * begin, manifest.size - 8 * begin)
        assert view is None or bytes(view) == b"".join(chunks)


def test_a_part_across_packs_is_mapped_but_for_the_pages_in_which_they_meet(place: Transport) -> None:
    chunks = large(7)
    manifest = laid(place, chunks)
    session = place.session()
    view = mapped(session, manifest)
    assert view is not None
    assert bytes(view) == b"".join(chunks)
    assert session.totals.bytes_received < manifest.size + 8 * PAGE_BYTES


def test_it_lies_in_memory_as_it_does_in_its_pages(place: Transport) -> None:
    manifest = laid(place, large(2), begin=72)
    view = mapped(place, manifest, 72)
    assert view is not None
    assert np.frombuffer(view, np.uint8).ctypes.data % PAGE_BYTES == 72


def test_writing_to_it_changes_neither_the_store_nor_what_others_see(place: Transport) -> None:
    manifest = laid(place, large(3))
    ours, theirs = mapped(place, manifest), mapped(place, manifest)
    assert ours is not None
    assert theirs is not None
    before = bytes(theirs)
    ours[:] = bytes(len(ours))
    assert bytes(theirs) == before
    again = mapped(place, manifest)
    assert again is not None
    assert bytes(again) == before


def test_it_stays_what_it_was_when_its_pack_is_deleted(place: Transport) -> None:
    manifest = laid(place, large(2))
    view = mapped(place, manifest)
    assert view is not None
    before = bytes(view)
    place.delete(pack_key(manifest.table.packs[0]))
    assert bytes(view) == before


def test_what_has_to_be_decoded_is_read_in_between(place: Transport) -> None:
    chunks = [*large(2), TEXT, *large(4)[2:]]
    manifest = laid(place, chunks)
    view = mapped(place, manifest)
    assert view is not None
    assert bytes(view) == b"".join(chunks)


def test_mostly_encoded_parts_are_not_mapped(place: Transport) -> None:
    manifest = laid(place, [noise(2 * PAGE_BYTES), TEXT, TEXT + b"."])
    assert mapped(place, manifest) is None


def test_a_part_that_begins_or_ends_within_a_chunk_is_not_mapped(place: Transport) -> None:
    manifest = laid(place, large(3))
    assert mapped(place, manifest, 8) is None
    assert mapped(place, manifest, 0, manifest.size - 8) is None
    assert mapped(place, manifest, 0, manifest.size + 1) is None


def test_chunks_that_lie_otherwise_than_in_this_file_are_not_mapped(place: Transport) -> None:
    """They were packed as part of another file."""
    laid(place, large(2))
    shifted = laid(place, large(2), begin=64)
    moved = Manifest(shifted.size, bytes(32), table=shifted.table, sequence=shifted.sequence[[1, 0, 2]])
    ends = ends_of(moved)
    assert mapping.runs_of(moved, ends, 0, int(ends[-1])) == []


def test_only_files_of_this_machine_are_mapped() -> None:
    place = in_memory()
    assert mapped(place, laid(place, large(3))) is None


@pytest.mark.parametrize("what", ["flipped", "cut", "gone"])
def test_a_damaged_pack_is_left_to_reading_which_names_it(place: Transport, what: str) -> None:
    manifest = laid(place, large(3))
    key = pack_key(manifest.table.packs[0])
    data = bytes(place.read(key))
    if what == "gone":
        place.delete(key)
    else:
        place.write(key, flipped(data, 8 * LARGE) if what == "flipped" else data[: 2 * PAGE_BYTES])
    assert mapped(place, manifest) is None
    with opened(place, manifest) as found, pytest.raises((ChunkDamaged, PackMissing), match=r"in pack|is not in the"):
        found.read_at(0, manifest.size)


def test_what_the_disk_does_not_give_is_left_to_reading(place: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Touching such a page would end the process; asking for it first does not."""
    manifest = laid(place, large(3))
    monkeypatch.setattr(mapping, "POPULATE_READ", 99)  # refused, as a page that cannot be read is
    assert mapped(place, manifest) is None


def test_a_machine_that_allows_no_more_mappings_is_no_obstacle(
    place: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = laid(place, large(3))

    def refused(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(local_module, "map_pages", refused)
    assert mapped(place, manifest) is None


def test_a_closed_reader_maps_nothing(place: Transport) -> None:
    manifest = laid(place, large(3))
    found = opened(place, manifest)
    found.close()
    with pytest.raises(ValueError, match="closed"):
        found.mapped(0, manifest.size)


def test_memory_is_given_back_with_the_last_view(place: Transport) -> None:
    """A thousand times what is mapped must not stay in this process's list of mappings."""
    manifest = laid(place, large(2))
    before = len(Path("/proc/self/maps").read_bytes().splitlines())
    for _ in range(200):
        assert mapped(place, manifest) is not None
    assert len(Path("/proc/self/maps").read_bytes().splitlines()) < before + 50
