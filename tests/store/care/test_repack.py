"""Repacking gathers what is needed, loses nothing whatever happens meanwhile, and comes to an end."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from faults.crashing import Crash, Fate
from shardflow.store.care import repack as repack_module
from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.care.repack import repack
from shardflow.store.manifest import encode_manifest
from shardflow.store.pack import pack_key
from shardflow.store.tombstones import Doomed, doomed_packs, write_tombstone
from store.care.world import DAY, World, content, reads_back
from store.samples import named, stored


def chunks(*seeds: int) -> list[bytes]:
    return [content(seed, 6_000) for seed in seeds]


def put_chunks(world: World, path: str, seeds: list[int], *, per_pack: int) -> bytes:
    """A file of these chunks, in packs of its own unless other files have the very same ones."""
    manifest = stored(world.store.transport, chunks(*seeds), per_pack=per_pack)
    world.store.transport.write(f"tree/{path}", encode_manifest(manifest))
    for pack in manifest.table.packs:
        world.clock.written[pack_key(pack)] = world.clock.now
    return b"".join(chunks(*seeds))


def drop_from_file(world: World, path: str, seeds: list[int]) -> bytes:
    """The file keeps only these of its chunks, where they are; the rest of its packs is needed no more."""
    manifest = world.store.manifest(path)
    names = [manifest.table.id(row) for row in range(len(manifest.table))]
    data = b"".join(chunks(*seeds))
    rows = np.asarray([names.index(named(chunk)) for chunk in chunks(*seeds)], np.uint32)
    table = manifest.table
    used, pack = np.unique(table.pack[rows], return_inverse=True)
    kept = replace(
        table,
        packs=tuple(table.packs[number] for number in used),
        chunk=table.chunk[rows],
        pack=pack.astype(np.uint32),
        offset=table.offset[rows],
        stored=table.stored[rows],
        size=table.size[rows],
        codec=table.codec[rows],
        base_count=table.base_count[rows],
    )
    less = replace(
        manifest, size=len(data), digest=named(data), table=kept, sequence=np.arange(len(rows), dtype=np.uint32)
    )
    world.store.transport.write(f"tree/{path}", encode_manifest(less))
    return data


@pytest.fixture
def sparse(world: World) -> tuple[World, dict[str, bytes]]:
    """Three files that need one chunk in eight of their packs, and one that needs all of its."""
    files = {}
    for number in range(3):
        first = 100 * number
        put_chunks(world, f"sparse/{number}", list(range(first, first + 16)), per_pack=8)
        files[f"sparse/{number}"] = drop_from_file(world, f"sparse/{number}", [first + 3, first + 12])
    files["full"] = put_chunks(world, "full", list(range(900, 908)), per_pack=8)
    world.clock.pass_by(2 * DAY)
    return world, files


def test_sparse_packs_are_rewritten_together_and_the_old_ones_left_to_collection(
    sparse: tuple[World, dict[str, bytes]],
) -> None:
    world, files = sparse
    before = world.packs()

    report = repack(world.store, small=0.0)

    assert (report.packs, report.sparse_packs, report.small_packs) == (7, 6, 0)
    assert report.packs_written == 1
    assert report.manifests_rewritten == 3
    assert report.bytes_copied == 6 * 6_000
    assert report.bytes_freed > 6 * 40_000
    assert before < world.packs()
    reads_back(world, files)
    for _ in range(2):
        collect(world.store)
        world.clock.pass_by(DAY)
    assert len(world.packs()) == 2
    reads_back(world, files)
    assert check(world.store, read_data=True).problems == ()


def test_a_dry_run_tells_what_would_be_done_and_changes_nothing(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, _ = sparse
    before = world.snapshot()
    told = repack(world.store, dry_run=True)
    assert world.snapshot() == before
    done = repack(world.store)
    assert (told.sparse_packs, told.bytes_before, told.bytes_copied) == (
        done.sparse_packs,
        done.bytes_before,
        done.bytes_copied,
    )


def test_chunks_are_copied_in_the_order_of_their_file(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, _ = sparse
    put_chunks(world, "mixed", [301, 300], per_pack=1)
    put_chunks(world, "mixed2", [303, 300, 302, 301], per_pack=1)
    repack(world.store, threshold=0.0, small=0.5)
    table = world.store.manifest("mixed2").table
    assert len(table.packs) == 1
    order = {table.id(row): int(table.offset[row]) for row in range(len(table))}
    offsets = [order[named(chunk)] for chunk in chunks(303, 302)]
    assert offsets == sorted(offsets)
    first = world.store.manifest("mixed").table
    assert np.all(np.diff(first.offset.astype(int)[world.store.manifest("mixed").sequence]) > 0)


def test_small_packs_are_joined(world: World) -> None:
    files = {f"{number}": put_chunks(world, f"{number}", [number], per_pack=1) for number in range(12)}
    report = repack(world.store)
    assert (report.sparse_packs, report.small_packs) == (0, 12)
    assert report.packs_written == 2  # of 64 KiB
    reads_back(world, files)


def test_repacking_comes_to_an_end(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, files = sparse
    for _ in range(2):
        repack(world.store)
        for _ in range(2):
            collect(world.store)
            world.clock.pass_by(DAY)
    before = world.snapshot()
    report = repack(world.store, threshold=1.0)
    assert (report.sparse_packs, report.small_packs, report.packs_written) == (0, 0, 0)
    assert world.snapshot() == before
    reads_back(world, files)


def test_one_small_pack_alone_is_left_as_it_is(world: World) -> None:
    put_chunks(world, "one", [1], per_pack=1)
    assert repack(world.store).small_packs == 0


def test_a_chunk_that_several_files_share_is_copied_once(world: World) -> None:
    one = put_chunks(world, "one", [1, 2], per_pack=1)
    two = put_chunks(world, "two", [2, 1], per_pack=1)
    report = repack(world.store)
    assert report.bytes_copied == 12_000
    assert world.packs_of("one") == world.packs_of("two")
    reads_back(world, {"one": one, "two": two})


def test_equal_chunks_in_different_packs_become_one(world: World) -> None:
    one = put_chunks(world, "one", [1, 2], per_pack=2)
    two = put_chunks(world, "two", [2, 3, 1], per_pack=3)
    repack(world.store, small=0.5)
    (pack,) = world.packs_of("one") | world.packs_of("two")
    assert world.store.transport.head(pack_key(pack)).size < 20_000
    reads_back(world, {"one": one, "two": two})


def test_groups_are_worked_through_one_by_one(
    sparse: tuple[World, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, files = sparse
    monkeypatch.setattr(repack_module, "GROUP_CHUNKS", 1)
    monkeypatch.setattr(repack_module, "READ_TOGETHER", 1)
    report = repack(world.store, small=0.0)
    assert report.bytes_copied == 6 * 6_000
    assert report.packs_written >= 2
    reads_back(world, files)


def test_a_damaged_chunk_stays_where_it_is_and_is_told_of(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, files = sparse
    table = world.store.manifest("sparse/0").table
    at = int(table.offset[0]) + 100
    world.change(pack_key(table.packs[int(table.pack[0])]), lambda data: data.__setitem__(at, data[at] ^ 1))
    report = repack(world.store)
    assert report.chunks_damaged == 1
    assert len(check(world.store, read_data=True).affected) == 1
    del files["sparse/0"]
    for path, data in files.items():
        assert world.store.open(path).read() == data


def test_a_manifest_replaced_meanwhile_is_not_undone(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, files = sparse
    done = False

    def writer(verb: str, key: str) -> None:
        nonlocal done
        if key == "tree/sparse/1" and not done:
            done = True
            world.put("sparse/1", b"something else")

    repack(world.process(before=writer))

    assert done
    reads_back(world, files | {"sparse/1": b"something else"})


def test_a_manifest_removed_meanwhile_stays_removed(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, files = sparse
    done = False

    def remover(verb: str, key: str) -> None:
        nonlocal done
        if key == "tree/sparse/1" and not done:
            done = True
            world.store.rm("sparse/1")

    repack(world.process(before=remover))

    assert done
    del files["sparse/1"]
    reads_back(world, files)


def test_no_manifest_is_made_to_name_a_pack_that_was_set_aside_meanwhile(
    sparse: tuple[World, dict[str, bytes]],
) -> None:
    """A repacking held up for longer than the grace period finds its own new packs set aside."""
    world, files = sparse
    before = world.packs()
    aside: set[bytes] = set()

    def collector(verb: str, key: str) -> None:
        if key.startswith("tree/") and not aside:
            aside.update(world.packs() - before)
            write_tombstone(world.store.transport, [Doomed(pack, 0, None) for pack in aside])

    # The look at trash/ comes before the first manifest is written, so it has to be one after that.
    report = repack(world.process(before=collector), small=0.0)
    assert aside
    assert report.manifests_rewritten
    written = {pack for path in files for pack in world.packs_of(path)}
    assert aside & written  # written within a quarter of the grace period of the look, so collections will see it
    for _ in range(4):
        world.clock.pass_by(DAY)
        collect(world.store)
    reads_back(world, files)


def test_a_pack_set_aside_before_the_first_look_is_not_named(sparse: tuple[World, dict[str, bytes]]) -> None:
    world, files = sparse
    before = world.packs()

    class Tombstoning(type(world.store.transport)):  # type: ignore[misc]
        def write(self, key: str, data: object, **options: object) -> object:
            info = super().write(key, data, **options)
            if key.startswith("packs/") and key not in before:
                write_tombstone(world.store.transport, [Doomed(bytes.fromhex(key[-64:]), 0, None)])
            return info

    store = world.process()
    store.transport.__class__ = Tombstoning
    report = repack(store, small=0.0)

    assert report.manifests_rewritten == 0
    assert report.manifests_skipped == 3
    named = {pack for path in files for pack in world.packs_of(path)}
    assert not named & doomed_packs(world.store.transport)
    reads_back(world, files)


def test_a_repacking_that_dies_before_any_change_loses_nothing_and_is_finished_by_the_next(
    sparse: tuple[World, dict[str, bytes]],
) -> None:
    world, files = sparse
    before, clock = world.snapshot(), copy.deepcopy(world.clock)
    fate = Fate()
    repack(world.process(fate=fate))
    for dies_at in range(1, fate.changes + 1):
        world.restore(before, clock)
        with pytest.raises(Crash):
            repack(world.process(dies_at=dies_at))
        reads_back(world, files)
        repack(world.store)
        for _ in range(4):
            world.clock.pass_by(DAY)
            collect(world.store)
        reads_back(world, files)
        assert check(world.store, read_data=True).problems == ()
