"""Chunks come back decoded and verified, with whatever they rest on; what is damaged is named and never returned."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow import codec
from shardflow.dtype import DType
from shardflow.store import chunks as chunks_module
from shardflow.store import fetch
from shardflow.store.catalog import Catalog
from shardflow.store.chunks import KeptChunks, PlainChunks, too_heavy
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.fetch import ranges
from shardflow.store.manifest import ChunkTable, Manifest
from shardflow.store.pack import HEAD_BYTES, PackBuilder, pack_key
from shardflow.transport import Totals, Transport
from store.samples import added, flipped, in_memory, named, noise, stored


def read_all(place: Transport, manifest: Manifest) -> dict[bytes, bytes]:
    table = manifest.table
    found = {}
    for part in ranges(table, range(len(table))):
        for row, data in PlainChunks(place, table, "models/m").in_range(part):
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
    assert len(list(PlainChunks(place.session(totals=totals), manifest.table, "m").in_range(part))) == 4
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


def test_intact_neighbours_of_a_damaged_chunk_are_still_read() -> None:
    place = in_memory()
    chunks = [noise(1_000, seed) for seed in range(3)]
    manifest = stored(place, chunks)
    damage(place, manifest, 1)
    [part] = ranges(manifest.table, range(3))
    reading = PlainChunks(place, manifest.table, "m").in_range(part)
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


def versions(count: int, words: int = 5_000) -> list[bytes]:
    """Weights that every training step moved a little."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal(words).astype("<f4")
    return [(values + 1e-5 * step * rng.standard_normal(words)).astype("<f4").tobytes() for step in range(count)]


def chained(place: Transport, chunks: list[bytes], per_pack: int = 1, first_ones: Collection[int] = (0,)) -> ChunkTable:
    """Each chunk stored by how it differs from the one before, the first ones of chains by themselves."""
    catalog, rows = Catalog(), array("I")
    for first in range(0, len(chunks), per_pack):
        builder, number, waiting = PackBuilder(1 << 20), catalog.open_pack(), []
        for n in range(first, min(first + per_pack, len(chunks))):
            data, before = chunks[n], chunks[n - 1]
            alone = n in first_ones
            predictions = [] if alone else [codec.unchanged(before, DType.F32)]
            chosen = codec.encode_against(data, DType.F32, predictions)
            assert (chosen.prediction is None) == alone
            bases = () if alone else (named(before),)
            offset = builder.add(named(data), len(data), chosen.encoded.codec, chosen.encoded.parts, bases)
            stored_bytes = (offset, chosen.encoded.size, len(data), int(chosen.encoded.codec))
            rows.append(catalog.add(named(data), number, *stored_bytes, tuple(rows[-1:]) if bases else ()))
            waiting.append(data)
        pack = builder.finish()
        place.write(pack_key(pack.id), pack.data)
        catalog.name_pack(number, pack.id)
    return catalog.table(rows)[0]


@pytest.mark.parametrize("per_pack", [1, 3, 10])
def test_a_chain_of_versions_comes_back_whichever_is_read_first(per_pack: int) -> None:
    place, chunks = in_memory(), versions(6)
    table = chained(place, chunks, per_pack)
    for row in reversed(range(6)):
        plain = PlainChunks(place, table, "m").of([row])
        assert bytes(plain[row]) == chunks[row]
    for part in ranges(table, range(6)):
        for row, data in PlainChunks(place, table, "m").in_range(part):
            assert bytes(data) == chunks[row]


def test_what_was_decoded_lately_is_not_fetched_again() -> None:
    place, totals = in_memory(), Totals()
    table = chained(place, versions(4))
    kept = KeptChunks()
    PlainChunks(place, table, "m", kept).of([2])
    again = PlainChunks(place.session(totals=totals), table, "m", kept)
    again.of([3])
    assert totals.reads == 1


def test_kept_chunks_go_when_there_are_too_many_the_least_recently_used_first() -> None:
    kept = KeptChunks(limit=250)
    for name in (b"a", b"b"):
        kept.put(name, memoryview(bytes(100)))
    kept.get(b"a")
    kept.put(b"c", memoryview(bytes(100)))
    assert kept.get(b"b") is None
    assert kept.get(b"a") is not None


def test_what_is_dropped_between_two_looks_is_fetched_after_all() -> None:
    place, chunks = in_memory(), versions(5)
    table = chained(place, chunks)
    for limit in range(0, 5 * len(chunks[0]), len(chunks[0]) // 2):
        reader = PlainChunks(place, table, "m", KeptChunks(limit))
        for row in (4, 0, 3, 1, 2, 4):
            assert bytes(reader.of([row])[row]) == chunks[row]


def test_a_damaged_base_is_named_with_the_file_that_needs_it() -> None:
    place, chunks = in_memory(), versions(3)
    table = chained(place, chunks)
    key = pack_key(table.packs[table.pack[0]])
    place.write(key, flipped(bytes(place.read(key)), 8 * (int(table.offset[0]) + 50)))
    with pytest.raises(ChunkDamaged, match=f"chunk {named(chunks[0]).hex()[:16]} of models/m in pack .* is damaged"):
        PlainChunks(place, table, "models/m").of([2])


def test_a_base_whose_pack_is_gone_is_named_with_the_file_that_needs_it() -> None:
    place = in_memory()
    table = chained(place, versions(3))
    place.delete(pack_key(table.packs[table.pack[1]]))
    with pytest.raises(PackMissing, match="of models/m is not in the store"):
        PlainChunks(place, table, "models/m").of([2])


def test_another_base_than_the_one_that_was_meant_is_noticed() -> None:
    place, chunks = in_memory(), versions(3)
    table = chained(place, chunks)
    crossed = replace(table, base=np.asarray([0, 0], np.uint32))
    with pytest.raises(ChunkDamaged, match=f"chunk {named(chunks[2]).hex()[:16]} of m"):
        PlainChunks(place, crossed, "m").of([2])


def test_a_chunk_that_claims_to_rest_on_too_much_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, totals = in_memory(), Totals()
    table = chained(place, versions(4))
    monkeypatch.setattr(chunks_module, "MOST_BASE_BYTES", 50_000)
    [part] = ranges(table, [3])
    with pytest.raises(ChunkDamaged, match="rests on more than 50000 bytes"):
        list(PlainChunks(place.session(totals=totals), table, "m").in_range(part))
    assert totals.reads <= 1


def test_chunks_that_rest_on_too_much_together_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    place, chunks = in_memory(), versions(6)
    table = chained(place, chunks, first_ones=(0, 3))
    monkeypatch.setattr(chunks_module, "MOST_BASE_BYTES", 40_000)
    plain = PlainChunks(place, table, "m", KeptChunks(0)).of([2, 5])
    assert {row: bytes(data) for row, data in plain.items()} == {2: chunks[2], 5: chunks[5]}


def test_a_table_tells_which_of_its_chunks_rest_on_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    table = chained(in_memory(), versions(6), first_ones=(0, 4))
    for limit, heavy in ((60_000, []), (59_999, [3]), (39_999, [2, 3]), (20_000, [2, 3]), (19_999, [1, 2, 3, 5])):
        monkeypatch.setattr(chunks_module, "MOST_BASE_BYTES", limit)
        assert too_heavy(table) == heavy


def test_what_a_chunk_rests_on_in_two_ways_is_weighed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog()
    rows = [(), (0,), (0,), (1, 2), (3, 3)]
    for number, bases in enumerate(rows):
        catalog.add(named(b"%d" % number), catalog.number_of(named(b"pack")), 24, 9, 100, 16, bases)
    table, _ = catalog.table(array("I", [4]))
    for limit, heavy in ((400, 0), (399, 1), (299, 2)):
        monkeypatch.setattr(chunks_module, "MOST_BASE_BYTES", limit)
        assert len(too_heavy(table)) == heavy


@pytest.mark.parametrize("per_pack", [1, 4])
@pytest.mark.parametrize("row", range(4))
def test_a_damaged_chunk_of_a_chain_is_named_by_who_reads_it_whatever_rests_on_it(row: int, per_pack: int) -> None:
    for byte in range(0, 4_000, 371):
        place, chunks = in_memory(), versions(4)
        table = chained(place, chunks, per_pack)
        key = pack_key(table.packs[table.pack[row]])
        at = int(table.offset[row]) + byte % int(table.stored[row])
        place.write(key, flipped(bytes(place.read(key)), 8 * at))
        [part] = ranges(table, [3])
        with pytest.raises(ChunkDamaged, match=f"chunk {named(chunks[row]).hex()[:16]} of m in pack .* is damaged"):
            list(PlainChunks(place, table, "m").in_range(part))


def test_a_base_that_was_altered_on_its_way_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place, chunks = in_memory(), versions(3)
    table = chained(place, chunks)
    real, base = type(place).read_range, pack_key(table.packs[table.pack[0]])
    altered: list[str] = []

    def altering(self: Transport, key: str, start: int, length: int) -> memoryview:
        data = bytes(real(self, key, start, length))
        if key != base or altered:
            return memoryview(data)
        altered.append(key)
        return memoryview(flipped(data, 8 * (length - 9)))

    monkeypatch.setattr(type(place), "read_range", altering)
    [part] = ranges(table, [2])
    assert [bytes(data) for _, data in PlainChunks(place, table, "m").in_range(part)] == [chunks[2]]
    assert altered == [base]


def test_a_draft_serves_only_what_will_be_verified() -> None:
    place, chunks = in_memory(), versions(3)
    table = chained(place, chunks)
    kept = KeptChunks()
    kept.put(table.id(1), memoryview(chunks[0]), sure=False)
    assert bytes(PlainChunks(place, table, "m", kept).of([1])[1]) == chunks[1]
    kept = KeptChunks()
    kept.put(table.id(1), memoryview(chunks[0]), sure=False)
    [part] = ranges(table, [2])
    assert [bytes(data) for _, data in PlainChunks(place, table, "m", kept).in_range(part)] == [chunks[2]]
    assert bytes(kept.get(table.id(1)) or b"") == chunks[1], "what was verified takes the place of the draft"


def test_bases_are_not_verified_beside_what_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    place, chunks = in_memory(), versions(4)
    table = chained(place, chunks)
    hashed: list[int] = []
    real = fetch.blake3
    monkeypatch.setattr(fetch, "blake3", lambda data: hashed.append(len(data)) or real(data))
    [part] = ranges(table, [3])
    assert [bytes(data) for _, data in PlainChunks(place, table, "m").in_range(part)] == [chunks[3]]
    assert len(hashed) == 1
    PlainChunks(place, table, "m").of([3])
    assert len(hashed) == 5
