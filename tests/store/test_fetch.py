"""Chunks are read in few ranges, each once, each verified; what is damaged is named and never returned."""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow import codec
from shardflow.dtype import DType
from shardflow.store import fetch
from shardflow.store.catalog import Catalog
from shardflow.store.errors import ChunkDamaged, FormatUnknown, PackMissing
from shardflow.store.fetch import GAP_BYTES, READ_BYTES, Range, chunks_of, ranges, verified
from shardflow.store.manifest import ChunkTable, Manifest
from shardflow.store.pack import HEAD_BYTES, MAX_CHUNK_BYTES, PackBuilder, pack_key
from shardflow.transport import Totals, Transport
from store.samples import added, flipped, in_memory, named, noise, stored


def table_at(places: list[tuple[int, int, int]]) -> ChunkTable:
    """A row for each (pack, offset, stored length)."""
    rows = len(places)
    pack, offset, length = (np.asarray(values, np.uint32) for values in zip(*places, strict=True))
    zeros = np.zeros(rows, np.uint8)
    return ChunkTable(
        tuple(named(b"%d" % number) for number in range(8)),
        np.zeros((rows, 32), np.uint8),
        pack,
        offset,
        length,
        length,
        zeros,
        zeros,
        np.zeros(0, np.uint32),
    )


places = st.lists(
    st.tuples(st.integers(0, 3), st.integers(HEAD_BYTES, 40 << 20), st.integers(0, MAX_CHUNK_BYTES)),
    min_size=1,
    max_size=40,
)


@given(places, st.randoms(use_true_random=False))
def test_ranges_cover_each_row_once_and_keep_their_limits(
    wanted: list[tuple[int, int, int]], random: st.DataObject
) -> None:
    table = table_at(wanted)
    rows = list(range(len(wanted)))
    random.shuffle(rows)  # type: ignore[attr-defined]

    parts = list(ranges(table, rows))

    assert Counter(row for part in parts for row in part.rows) == Counter(rows)
    for part in parts:
        assert part.length == part.end - part.start <= READ_BYTES
        for row in part.rows:
            pack, offset, length = wanted[row]
            assert table.packs[pack] == part.pack
            assert part.start <= offset <= offset + length <= part.end
        assert {part.start} <= {wanted[row][1] for row in part.rows}
        assert {part.end} <= {sum(wanted[row][1:]) for row in part.rows}


@given(places)
def test_a_range_holds_no_gap_worth_skipping(wanted: list[tuple[int, int, int]]) -> None:
    table = table_at(wanted)
    for part in ranges(table, range(len(wanted))):
        end = part.start
        for row in part.rows:
            assert wanted[row][1] - end <= GAP_BYTES
            end = max(end, sum(wanted[row][1:]))


def test_neighbours_are_read_together_whatever_their_order() -> None:
    table = table_at([(0, 1000, 500), (0, 24, 976), (0, 1500, 100)])
    assert list(ranges(table, [0, 1, 2])) == [Range(table.packs[0], 24, 1600, (1, 0, 2))]


def test_what_is_far_apart_or_in_another_pack_is_read_apart() -> None:
    far = 24 + 100 + GAP_BYTES
    table = table_at([(0, 24, 100), (0, far, 50), (0, far + 50 + GAP_BYTES + 1, 50), (1, far, 50)])
    assert [part.rows for part in ranges(table, range(4))] == [(0, 1), (2,), (3,)]


def test_a_long_run_of_chunks_is_cut_at_the_limit() -> None:
    table = table_at([(0, HEAD_BYTES + (row << 20), 1 << 20) for row in range(20)])
    assert [part.length >> 20 for part in ranges(table, range(20))] == [8, 8, 4]


def test_rows_stay_roughly_in_order_so_that_readers_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SORTED_BYTES", 300)
    table = table_at([(row % 2, HEAD_BYTES + 100 * row, 100) for row in range(6)])
    assert [part.rows for part in ranges(table, range(6))] == [(0, 2), (1,), (4,), (3, 5)]


def test_no_rows_need_no_ranges() -> None:
    assert list(ranges(table_at([(0, 24, 1)]), [])) == []


def read_all(place: Transport, manifest: Manifest) -> dict[bytes, bytes]:
    table = manifest.table
    found = {}
    for part in ranges(table, range(len(table))):
        for row, data in chunks_of(place, table, part, "models/m"):
            found[table.id(row)] = bytes(data)
    return found


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=10, unique=True), st.integers(1, 4))
@settings(max_examples=40)
def test_every_chunk_comes_back(chunks: list[bytes], per_pack: int) -> None:
    place = in_memory()
    manifest = stored(place, chunks, per_pack=per_pack)
    assert read_all(place, manifest) == {named(data): data for data in chunks}


def test_chunks_of_every_encoding_come_back() -> None:
    weights = np.random.default_rng(1).standard_normal(5_000).astype("<f4").tobytes()
    builder = PackBuilder(1 << 20)
    entries = [
        added(builder, data, dtype)
        for data, dtype in [(noise(5_000), DType.BYTES), (b"text " * 900, DType.BYTES), (weights, DType.F32)]
    ]
    assert [entry.codec for entry in entries] == [0, 1, 2]
    place, pack = in_memory(), builder.finish()
    place.write(pack_key(pack.id), pack.data)
    catalog = Catalog()
    catalog.add_pack(pack.id, entries)
    table, sequence = catalog.table(array("I", range(3)))
    manifest = Manifest(0, bytes(32), table=table, sequence=sequence)
    assert read_all(place, manifest) == {named(data): data for data in (noise(5_000), b"text " * 900, weights)}


def test_a_gap_is_read_over_and_nothing_else_is_read() -> None:
    place = in_memory()
    manifest = stored(place, [noise(1_000, seed) for seed in range(4)], per_pack=4, between=noise(500, 9))
    totals = Totals()
    [part] = ranges(manifest.table, range(4))
    assert len(list(chunks_of(place.session(totals=totals), manifest.table, part, "m"))) == 4
    assert (totals.reads, totals.bytes_received) == (1, 4 * 1_000 + 3 * 500)


def damage(place: Transport, manifest: Manifest, row: int, bit: int = 3) -> None:
    """Flip one bit of a stored chunk."""
    table = manifest.table
    key = pack_key(table.packs[table.pack[row]])
    place.write(key, flipped(bytes(place.read(key)), 8 * int(table.offset[row]) + bit))


def test_any_flipped_bit_of_a_chunk_is_named_with_its_file_and_pack() -> None:
    for bit in range(0, 480, 7):
        place = in_memory()
        manifest = stored(place, [noise(60)])
        damage(place, manifest, 0, bit)
        names = f"chunk {named(noise(60)).hex()[:16]} of models/m in pack {manifest.table.packs[0].hex()[:16]}"
        with pytest.raises(ChunkDamaged, match=f"{names} is damaged: .*; run "):
            read_all(place, manifest)


def test_a_flipped_bit_of_a_compressed_chunk_never_gives_other_bytes() -> None:
    """A few bits of a compressed stream carry nothing: then the chunk is still the chunk."""
    text = b"a text that repeats itself, " * 10
    manifest = stored(in_memory(), [text])
    stored_bytes = codec.encode(text, DType.BYTES)
    whole, noticed = b"".join(bytes(part) for part in stored_bytes.parts), 0
    for bit in range(8 * len(whole)):
        try:
            assert bytes(verified(manifest.table, 0, flipped(whole, bit), "m")) == text
        except ChunkDamaged:
            noticed += 1
    assert noticed > 0.9 * 8 * len(whole)


def test_intact_neighbours_of_a_damaged_chunk_are_still_read() -> None:
    place = in_memory()
    chunks = [noise(1_000, seed) for seed in range(3)]
    manifest = stored(place, chunks)
    damage(place, manifest, 1)
    [part] = ranges(manifest.table, range(3))
    reading = chunks_of(place, manifest.table, part, "m")
    assert bytes(next(reading)[1]) == chunks[0]
    with pytest.raises(ChunkDamaged):
        next(reading)


def test_bytes_altered_on_their_way_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place = in_memory()
    chunks = [noise(1_000, seed) for seed in range(3)]
    manifest = stored(place, chunks)
    asked: list[int] = []
    real = type(place).read_range

    def altering(self: Transport, key: str, start: int, length: int) -> memoryview:
        asked.append(length)
        data = bytes(real(self, key, start, length))
        return memoryview(flipped(data, 8 * 1_500) if len(asked) == 1 else data)

    monkeypatch.setattr(type(place), "read_range", altering)
    assert read_all(place, manifest) == {named(data): data for data in chunks}
    assert asked == [3_000, 1_000], "only the altered chunk"


def test_a_missing_pack_is_named_with_its_file() -> None:
    place = in_memory()
    manifest = stored(place, [noise(100)])
    place.delete(pack_key(manifest.table.packs[0]))
    with pytest.raises(PackMissing, match=r"pack [0-9a-f]{16} of models/m is not in the store; run 'shardflow fsck"):
        read_all(place, manifest)


def test_a_truncated_pack_is_named_with_its_file() -> None:
    place = in_memory()
    manifest = stored(place, [noise(100)])
    key = pack_key(manifest.table.packs[0])
    place.write(key, bytes(place.read(key))[: HEAD_BYTES + 99])
    with pytest.raises(ChunkDamaged, match=r"of models/m in pack .* is damaged: .*wanted 100 bytes at 24, got 99"):
        read_all(place, manifest)


def test_a_codec_of_the_future_is_told_from_damage() -> None:
    place = in_memory()
    manifest = stored(place, [noise(100)])
    later = ChunkTable(**{name: getattr(manifest.table, name) for name in ChunkTable.__slots__} | {"codec": [200]})
    with pytest.raises(FormatUnknown, match="models/m is stored with codec 200, unknown to this version; upgrade"):
        verified(later, 0, noise(100), "models/m")


def test_a_stored_length_that_is_wrong_is_damage() -> None:
    manifest = stored(in_memory(), [noise(100)])
    for data in (noise(100)[:99], noise(100) + b"x", b""):
        with pytest.raises(ChunkDamaged, match=r"of models/m in pack .* is damaged"):
            verified(manifest.table, 0, data, "models/m")
