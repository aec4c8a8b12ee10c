"""Manifests pointed at copies of their chunks read the same, and only where the copy serves in every respect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shardflow.store.care import moving
from shardflow.store.care import packs as packs_module
from shardflow.store.care.columns import IndexColumns, IndexMemory
from shardflow.store.care.moving import Copier, Guard, Moves, Place, pointed, row_entry
from shardflow.store.care.packs import listed_packs, pack_index
from shardflow.store.errors import PackDamaged
from shardflow.store.manifest import Manifest, decode_manifest, encode_manifest
from shardflow.store.pack import PackEntry
from shardflow.store.tombstones import Doomed, write_tombstone
from store.care.world import content
from store.samples import in_memory, stored


@pytest.fixture
def with_bases() -> Manifest:
    """Three chunks in one pack, the last coded against the first two."""
    manifest = stored(in_memory(), [content(seed, 2_000) for seed in range(3)])
    table = replace(manifest.table, base_count=np.asarray([0, 0, 2], np.uint8), base=np.asarray([0, 1], np.uint32))
    return replace(manifest, table=table)


def place_for(manifest: Manifest, row: int, **changes: object) -> Place:
    entry = row_entry(manifest.table, row)
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__} | {"offset": 500} | changes
    return Place(b"n" * 32, PackEntry(**fields))  # type: ignore[arg-type]


def test_moving_one_chunk_changes_its_row_only(with_bases: Manifest) -> None:
    table, moves = with_bases.table, Moves()
    moves.add(table.packs[0], int(table.offset[1]), place_for(with_bases, 1, stored=77, codec=2))

    after = pointed(with_bases, moves)

    assert after is not None
    assert after.table.packs == (table.packs[0], b"n" * 32)
    assert after.table.pack.tolist() == [0, 1, 0]
    assert (after.table.offset[1], after.table.stored[1], after.table.codec[1]) == (500, 77, 2)
    assert [after.table.bases(row) for row in range(3)] == [(), (), (0, 1)]
    assert row_entry(after.table, 0) == row_entry(table, 0)
    assert decode_manifest(encode_manifest(after), "x").digest == with_bases.digest


def test_packs_that_no_row_needs_any_more_are_dropped(with_bases: Manifest) -> None:
    moves = Moves()
    for row in range(3):
        moves.add(with_bases.table.packs[0], int(with_bases.table.offset[row]), place_for(with_bases, row))
    after = pointed(with_bases, moves)
    assert after is not None
    assert after.table.packs == (b"n" * 32,)


@pytest.mark.parametrize("changes", [{"bases": ()}, {"chunk": b"x" * 32}, {"size": 1}], ids=["bases", "chunk", "size"])
def test_a_place_that_does_not_serve_in_every_respect_is_not_used(
    with_bases: Manifest, changes: dict[str, object]
) -> None:
    moves = Moves()
    moves.add(with_bases.table.packs[0], int(with_bases.table.offset[2]), place_for(with_bases, 2, **changes))
    assert pointed(with_bases, moves) is None


def test_copies_keep_what_their_chunks_are_coded_against(with_bases: Manifest) -> None:
    transport = in_memory()
    copier = Copier(transport, 1 << 20)
    for row in range(3):
        entry = row_entry(with_bases.table, row)
        copier.add(with_bases.table.packs[0], entry.offset, entry, bytes(entry.stored))
    assert len(copier) == 3
    copier.flush()
    copier.flush()

    after = pointed(with_bases, copier.moves)

    assert after is not None
    assert copier.packs_written == 1
    (pack,) = after.table.packs
    index = pack_index(transport, pack, listed_packs(transport)[pack].size)
    assert [entry.bases for entry in index] == [(), (), (index[0].chunk, index[1].chunk)]
    assert IndexColumns.of(index).agrees(after.table, np.arange(3)).all()


def test_an_index_and_a_manifest_disagree_in_any_column(with_bases: Manifest) -> None:
    table, rows = with_bases.table, np.arange(3)
    index = [row_entry(table, row) for row in range(3)]
    columns = IndexColumns.of(index[::-1])
    assert columns.agrees(table, rows).tolist() == [True, True, True]
    assert columns.agrees(replace(table, base=np.asarray([1, 0], np.uint32)), rows).tolist() == [True, True, False]
    for name in ("offset", "stored", "size", "codec"):
        column = getattr(table, name).copy()
        column[1] += 1
        assert columns.agrees(replace(table, **{name: column}), rows).tolist() == [True, False, True]
    assert not IndexColumns.of([]).agrees(table, rows).any()


def test_only_so_many_indexes_are_remembered(with_bases: Manifest) -> None:
    columns = IndexColumns.of([row_entry(with_bases.table, row) for row in range(3)])
    memory = IndexMemory(entries=6)
    for name in (b"a", b"b"):
        memory.keep(name, columns)
    memory.get(b"a")
    memory.keep(b"c", columns)
    assert (memory.get(b"a"), memory.get(b"b"), memory.get(b"c")) == (columns, None, columns)


def test_an_index_longer_than_the_usual_reading_is_read_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = in_memory()
    stored(transport, [content(seed, 300) for seed in range(20)], per_pack=20)
    ((pack, info),) = listed_packs(transport).items()
    whole = pack_index(transport, pack, info.size)
    monkeypatch.setattr(packs_module, "TAIL_READ_BYTES", 100)
    assert pack_index(transport, pack, info.size) == whole
    assert len(whole) == 20
    with pytest.raises(PackDamaged, match="shorter than it was listed"):
        pack_index(transport, pack, info.size + 50)


def test_what_was_seen_of_packs_is_looked_up_again_after_a_while_though_the_machine_slept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = in_memory()
    stored(transport, [content(0, 300)])
    ((pack, _),) = listed_packs(transport).items()
    now = 1000.0
    monkeypatch.setattr(moving, "seconds", lambda: now)
    guard = Guard(transport, grace=400.0)
    assert guard.unfit([pack]) == set()
    write_tombstone(transport, [Doomed(pack, 0, None)])
    now += 99.0
    assert guard.unfit([pack]) == set()
    now += 2.0
    assert guard.unfit([pack]) == {pack}
