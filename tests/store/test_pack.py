"""Packs hold what was put into them, say where it is, and no change to them goes unnoticed."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.codec import CodecId
from shardflow.store.errors import FormatUnknown, PackDamaged
from shardflow.store.pack import (
    HEAD_BYTES,
    HEAD_MAGIC,
    MAX_CHUNK_BYTES,
    MAX_INDEX_BYTES,
    PAGE_BYTES,
    PAGED_BYTES,
    TAIL_BYTES,
    TAIL_MAGIC,
    FinishedPack,
    PackBuilder,
    PackEntry,
    check_whole,
    index_span,
    pack_key,
    pack_of_key,
    read_index,
)
from store.samples import flipped, named, noise

names = st.binary(min_size=32, max_size=32)
chunks = st.lists(
    st.tuples(
        names, st.lists(st.binary(max_size=50), max_size=3), st.integers(0, 255), st.lists(names, max_size=2).map(tuple)
    ),
    max_size=12,
)


def built(
    items: list[tuple[bytes, list[bytes], int, tuple[bytes, ...]]], buffer: bytearray | None = None
) -> FinishedPack:
    builder = PackBuilder(1 << 20, buffer)
    for name, parts, codec, bases in items:
        builder.add(name, 100, codec, tuple(parts), bases)
    return builder.finish()


def small_pack() -> FinishedPack:
    return built([(named(noise(size)), [noise(size)], 0, ()) for size in (20, 0, 40)])


def split(data: bytes) -> tuple[bytes, bytes]:
    """A pack's index and tail, as a reader fetches them."""
    start, length = index_span(bytes(32), len(data), data[-TAIL_BYTES:])
    return data[start : start + length], data[-TAIL_BYTES:]


def with_index(index: Any, *, body: bytes = bytes(100)) -> bytes:
    """A pack of a hostile writer, who gets every digest right."""
    packed = msgspec.msgpack.encode(index) if not isinstance(index, bytes) else index
    head = HEAD_MAGIC + bytes(16) + body
    return head + packed + struct.pack("<I", len(packed)) + blake3(packed).digest() + TAIL_MAGIC


@given(chunks)
def test_any_set_of_chunks_round_trips(items: list[tuple[bytes, list[bytes], int, tuple[bytes, ...]]]) -> None:
    pack = built(items)
    data = bytes(pack.data)

    entries = check_whole(pack.id, data)

    assert tuple(entries) == pack.entries
    assert [(entry.chunk, entry.codec, entry.bases) for entry in entries] == [
        (name, codec, bases) for name, _, codec, bases in items
    ]
    for entry, (_, parts, _, _) in zip(entries, items, strict=True):
        assert data[entry.offset : entry.offset + entry.stored] == b"".join(parts)
    assert read_index(pack.id, len(data), *split(data)) == entries


@given(chunks)
@settings(max_examples=30)
def test_a_reused_buffer_leaves_nothing_of_the_last_pack(
    items: list[tuple[bytes, list[bytes], int, tuple[bytes, ...]]],
) -> None:
    fresh, used = built(items), built(items, bytearray(noise(1 << 16)))
    assert (fresh.id, bytes(fresh.data)) == (used.id, bytes(used.data))


def test_every_flipped_bit_is_noticed() -> None:
    pack = small_pack()
    data = bytes(pack.data)
    for bit in range(8 * len(data)):
        with pytest.raises((PackDamaged, FormatUnknown)):
            check_whole(pack.id, flipped(data, bit))


def test_every_flipped_bit_in_the_index_is_noticed_without_the_rest() -> None:
    pack = small_pack()
    data = bytes(pack.data)
    index, tail = split(data)
    for bit in range(8 * len(index)):
        with pytest.raises(PackDamaged, match="fails its digest"):
            read_index(pack.id, len(data), flipped(index, bit), tail)
    for bit in range(8 * TAIL_BYTES):
        with pytest.raises((PackDamaged, FormatUnknown)):
            read_index(pack.id, len(data), index, flipped(tail, bit))


def test_every_truncation_is_noticed() -> None:
    pack = small_pack()
    data = bytes(pack.data)
    for length in range(len(data)):
        short = data[:length]
        with pytest.raises((PackDamaged, FormatUnknown)):
            check_whole(pack.id, short)
        with pytest.raises(PackDamaged):
            index_span(pack.id, length, short[-TAIL_BYTES:])


def test_a_pack_that_is_longer_than_it_was_is_noticed() -> None:
    pack = small_pack()
    data = bytes(pack.data)
    with pytest.raises(PackDamaged, match="not those it is named by"):
        check_whole(pack.id, data + b"\0")
    with pytest.raises(PackDamaged, match="fails its digest"):
        read_index(pack.id, len(data) + 1, data[-TAIL_BYTES - 9 :], data[-TAIL_BYTES:])


def test_a_format_from_the_future_is_told_from_damage() -> None:
    data = bytes(small_pack().data)
    later = HEAD_MAGIC[:6] + b"\x00\x02" + data[8:]
    with pytest.raises(FormatUnknown, match="from the future; upgrade Shardflow"):
        check_whole(named(later), later)
    with pytest.raises(FormatUnknown, match="from the future; upgrade Shardflow"):
        index_span(bytes(32), len(data), data[-TAIL_BYTES:-1] + b"\x02")


GOOD = [bytes(32), HEAD_BYTES, 100, 100, 0]


@pytest.mark.parametrize(
    "lie",
    [
        [bytes(32), HEAD_BYTES - 1, 10, 10, 0],
        [bytes(32), 0, 10, 10, 0],
        [bytes(32), -1, 10, 10, 0],
        [bytes(32), HEAD_BYTES, 101, 101, 0],
        [bytes(32), HEAD_BYTES + 100, 1, 1, 0],
        [bytes(32), 1 << 63, 10, 10, 0],
        [bytes(32), HEAD_BYTES, -1, 10, 0],
        [bytes(32), HEAD_BYTES, 10, -1, 0],
        [bytes(32), HEAD_BYTES, 10, MAX_CHUNK_BYTES + 1, 0],
        [bytes(32), HEAD_BYTES, 10, 1 << 63, 0],
        [bytes(32), HEAD_BYTES, 10, 10, 256],
        [bytes(32), HEAD_BYTES, 10, 10, -1],
        [bytes(31), HEAD_BYTES, 10, 10, 0],
        [bytes(33), HEAD_BYTES, 10, 10, 0],
        [bytes(32), HEAD_BYTES, 10, 10, 0, [bytes(31)]],
        [bytes(32), HEAD_BYTES, 10, 10],
        ["name", HEAD_BYTES, 10, 10, 0],
        [bytes(32), HEAD_BYTES, 10.5, 10, 0],
        {"chunk": bytes(32)},
    ],
)
def test_an_index_that_lies_is_refused(lie: Any) -> None:
    data = with_index([GOOD, lie])
    with pytest.raises(PackDamaged, match=r"has an index that|has an index with"):
        check_whole(named(data), data)


@pytest.mark.parametrize("index", [b"", b"\xc1", msgspec.msgpack.encode({}), b"\x91" * 100_000 + b"\x01"])
def test_an_index_that_is_none_is_refused(index: bytes) -> None:
    data = with_index(index)
    with pytest.raises(PackDamaged, match="does not parse"):
        check_whole(named(data), data)


def test_an_index_longer_than_its_pack_is_refused_before_memory_is_taken() -> None:
    for length in (101, MAX_INDEX_BYTES + 1, 0xFFFFFFFF):
        tail = struct.pack("<I", length) + bytes(32) + TAIL_MAGIC
        with pytest.raises(PackDamaged, match="does not end as a pack does"):
            index_span(bytes(32), HEAD_BYTES + TAIL_BYTES + 100, tail)
    tail = struct.pack("<I", MAX_INDEX_BYTES + 1) + bytes(32) + TAIL_MAGIC
    with pytest.raises(PackDamaged, match="does not end as a pack does"):
        index_span(bytes(32), 1 << 40, tail)


def test_later_fields_of_an_entry_are_passed_over() -> None:
    data = with_index([[*GOOD, [], "a field of the future"]])
    assert check_whole(named(data), data) == [PackEntry(*GOOD)]


def test_an_empty_pack_is_still_one() -> None:
    pack = PackBuilder(1 << 20).finish()
    assert check_whole(pack.id, pack.data) == []
    assert len(pack.data) == HEAD_BYTES + 1 + TAIL_BYTES


def test_a_salt_makes_another_pack_of_the_same_chunks() -> None:
    plain, salted = PackBuilder(1000), PackBuilder(1000, salt=bytes(range(16)))
    for builder in (plain, salted):
        builder.add(bytes(32), 3, 0, (b"abc",))
    one, other = plain.finish(), salted.finish()
    assert one.id != other.id
    assert one.entries == other.entries
    assert check_whole(other.id, other.data) == list(other.entries)


def test_a_pack_stops_taking_chunks_near_its_target() -> None:
    builder = PackBuilder(10_000)
    assert builder.empty
    assert builder.fits(1 << 20), "an empty pack takes any chunk, or it could never be stored"
    while builder.fits(500):
        builder.add(noise(32), 500, 0, (noise(500),))
    assert 9_000 <= len(builder.finish().data) <= 10_000


def test_a_chunk_over_the_target_still_fits_alone() -> None:
    builder = PackBuilder(4096)
    data = noise(100_000)
    builder.add(named(data), len(data), 0, (data,))
    assert not builder.fits(0)
    pack = builder.finish()
    assert bytes(pack.data[HEAD_BYTES : HEAD_BYTES + len(data)]) == data
    check_whole(pack.id, pack.data)


def test_a_part_of_any_shape_is_taken_as_its_bytes() -> None:
    builder = PackBuilder(4096)
    builder.add(bytes(32), 8, 0, (memoryview(bytes(range(8))).cast("I"), bytearray(b"x")))
    pack = builder.finish()
    assert pack.entries[0].stored == 9
    assert bytes(pack.data[HEAD_BYTES : HEAD_BYTES + 9]) == bytes(range(8)) + b"x"


@given(names)
def test_a_pack_is_found_by_its_name_and_its_name_in_its_key(name: bytes) -> None:
    assert pack_of_key(pack_key(name)) == name


@pytest.mark.parametrize(
    "key",
    [
        "packs/ab/cd",
        "packs/" + "ab" * 32,
        "packs/00/" + "ab" * 32,
        "packs/zz/" + "zz" * 32,
        "packs/AB/" + "AB" * 32,
        "trash/ab/" + "ab" * 32,
        "packs/  /" + "  " * 32,
        "",
    ],
)
def test_a_foreign_object_among_the_packs_names_none(key: str) -> None:
    assert pack_of_key(key) is None


def test_large_chunks_that_are_stored_as_they_are_lie_in_pages_as_in_their_file() -> None:
    memory = memoryview(bytearray(b"x" * (8 << 20)))  # used before
    builder = PackBuilder(4 << 20, memory)
    data = noise(PAGED_BYTES + 10)
    first = builder.add(named(b"small"), 100, CodecId.RAW, (noise(100),), at=5)
    offsets = [builder.add(named(data), len(data), CodecId.RAW, (data,), at=at) for at in (9_000, 9_000 + len(data))]
    encoded = builder.add(named(b"encoded"), 2 << 20, CodecId.ZSTD, (data,), at=0)
    pack = builder.finish()
    assert first == HEAD_BYTES
    assert offsets[0] % PAGE_BYTES == 9_000 % PAGE_BYTES
    assert offsets[1] == offsets[0] + len(data), "the next one follows at once"
    assert encoded == offsets[1] + len(data)
    assert not any(pack.data[HEAD_BYTES + 100 : offsets[0]])
    assert [entry.offset for entry in check_whole(pack.id, pack.data)] == [first, *offsets, encoded]
