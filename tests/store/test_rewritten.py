"""Chunks that are encoded already go from one pack to another as they are."""

from __future__ import annotations

from shardflow.store.pack import check_whole, pack_key
from shardflow.store.sending import StoredChunk, rewritten
from store.samples import in_memory, named, noise, stored


def test_stored_chunks_are_copied_as_they_are() -> None:
    place = in_memory()
    manifest = stored(place, [noise(900 + number, number) for number in range(3)])
    table = manifest.table
    source = bytes(place.read(pack_key(table.packs[0])))
    chunks = []
    for row in range(3):
        start = int(table.offset[row])
        data = source[start : start + int(table.stored[row])]
        chunks.append(StoredChunk(table.id(row), int(table.size[row]), int(table.codec[row]), data, (bytes(32),) * row))

    plain, _ = rewritten(place, chunks)
    salted, offsets = rewritten(place, chunks, salt=b"s" * 16)

    assert plain != salted
    whole = bytes(place.read(pack_key(salted)))
    entries = check_whole(salted, whole)
    assert [entry.offset for entry in entries] == offsets
    assert [whole[entry.offset : entry.offset + entry.stored] for entry in entries] == [chunk.data for chunk in chunks]
    assert [entry.bases for entry in entries] == [(), (bytes(32),), (bytes(32),) * 2]


def test_a_rewritten_pack_has_room_for_many_small_chunks() -> None:
    chunks = [StoredChunk(named(b"%d" % number), 9, 0, b"%d" % number) for number in range(20_000)]
    place = in_memory()
    pack, offsets = rewritten(place, chunks)
    assert [entry.offset for entry in check_whole(pack, place.read(pack_key(pack)))] == offsets
