"""Repair saves what is good, says exactly what is lost, and after the files are put again nothing is missing."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from faults.crashing import Crash, Fate
from shardflow.errors import CorruptData
from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.lacking import note_of, notes
from shardflow.store.manifest import encode_manifest
from shardflow.store.pack import PackBuilder, pack_key
from shardflow.store.tombstones import Doomed, write_tombstone
from store.care.world import DAY, World, content, reads_back
from store.samples import manifest_from_the_future, named, stored

FILES = {"models/a": content(1, 150_000), "models/b": content(2, 100_000), "models/whole": content(3, 30_000)}


@pytest.fixture
def filled(world: World) -> World:
    for path, data in FILES.items():
        world.put(path, data)
    return world


def damaged_pack(world: World, path: str, change: Callable[[bytearray], None]) -> bytes:
    """The file's largest pack, after something happened to it."""
    packs = [world.store.transport.head(pack_key(pack)) for pack in world.packs_of(path)]
    key = max(packs, key=lambda info: info.size).key
    world.change(key, change)
    return bytes.fromhex(key[-64:])


def flip_some_data(data: bytearray) -> None:
    data[5000] ^= 1


def flip_the_salt(data: bytearray) -> None:
    data[10] ^= 1


def flip_the_index(data: bytearray) -> None:
    data[-60] ^= 1


def flip_the_version(data: bytearray) -> None:
    data[-1] ^= 2


def truncate(data: bytearray) -> None:
    del data[30_000:]


def empty(data: bytearray) -> None:
    data.clear()


DAMAGES = [flip_some_data, flip_the_salt, flip_the_index, flip_the_version, truncate, empty]


@pytest.mark.parametrize("change", DAMAGES)
def test_after_repair_putting_the_original_again_mends_everything(
    filled: World, change: Callable[[bytearray], None]
) -> None:
    pack = damaged_pack(filled, "models/a", change)
    found = check(filled.store, read_data=True)

    repaired = check(filled.store, read_data=True, repair=True)

    assert repaired.mended is not None
    assert repaired.mended.packs_moved_aside == [pack.hex()]
    assert [file.chunks for file in repaired.affected] == [file.chunks for file in found.affected]
    assert pack not in filled.packs()
    for path, data in FILES.items():
        filled.put(path, data)
    after = check(filled.store, read_data=True)
    assert after.problems == ()
    reads_back(filled, FILES)


@pytest.mark.parametrize("change", [flip_the_salt, flip_the_index, flip_the_version])
def test_damage_that_hit_no_chunk_is_mended_without_anybodys_help(
    filled: World, change: Callable[[bytearray], None]
) -> None:
    damaged_pack(filled, "models/a", change)
    assert check(filled.store, read_data=True, repair=True).ok
    assert check(filled.store, read_data=True).problems == ()
    reads_back(filled, FILES)


def test_every_byte_that_can_be_saved_is_readable_after_repair(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)

    (file,) = check(filled.store, read_data=True, repair=True).affected

    assert file.path == "models/a"
    lost = np.zeros(150_000, bool)
    for chunk in file.chunks:
        lost[chunk.start : chunk.start + chunk.size] = True
    assert 0 < lost.sum() <= 16 << 10
    reader = filled.store.open("models/a")
    for start in range(0, 150_000, 500):
        if not lost[start : start + 500].any():
            assert reader.read_at(start, 500) == FILES["models/a"][start : start + 500]
    for path in ("models/b", "models/whole"):
        assert filled.store.open(path).read() == FILES[path]
    with pytest.raises(CorruptData):
        filled.store.open("models/a").read()


def test_a_report_without_repair_says_how_to_mend(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    before = filled.snapshot()
    report = check(filled.store, read_data=True)
    assert all("--read-data --repair" in problem.remedy for problem in report.problems)
    assert {key: data for key, data in filled.snapshot().items() if key != "care/verified"} == before


def test_problems_that_repair_solved_are_marked(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_the_salt)
    damaged_pack(filled, "models/b", flip_some_data)
    report = check(filled.store, read_data=True, repair=True)
    assert not report.ok
    told = sorted((problem.kind, problem.mended) for problem in report.problems)
    assert told == [("chunks-lost", False), ("pack-damaged", False), ("pack-damaged", True)]


def test_a_damaged_pack_that_nothing_needs_is_moved_aside_too(filled: World) -> None:
    pack = damaged_pack(filled, "models/a", flip_some_data)
    filled.store.rm("models/a")
    assert check(filled.store, read_data=True, repair=True).ok
    assert pack not in filled.packs()
    assert filled.keys("care/damaged/") == [f"care/damaged/{pack.hex()}"]


def test_lost_chunks_are_taken_from_other_packs_that_hold_them(world: World) -> None:
    chunks = [content(seed, 5_000) for seed in range(6)]
    one = stored(world.store.transport, chunks)
    two = stored(world.store.transport, chunks, per_pack=6)
    world.store.transport.write("tree/one", encode_manifest(one))
    world.store.transport.write("tree/two", encode_manifest(two))
    for pack in one.table.packs:
        world.store.transport.delete(pack_key(pack))

    report = check(world.store, repair=True)

    assert report.ok
    assert report.mended is not None
    assert report.mended.chunks_found == 6
    assert world.packs_of("one") == world.packs_of("two")
    reads_back(world, {"one": b"".join(chunks), "two": b"".join(chunks)})
    assert check(world.store, read_data=True).problems == ()


def test_chunks_found_in_a_pack_that_is_set_aside_are_copied_out_of_it(world: World) -> None:
    chunks = [content(seed, 5_000) for seed in range(6)]
    one = stored(world.store.transport, chunks)
    two = stored(world.store.transport, chunks, per_pack=6)
    world.store.transport.write("tree/one", encode_manifest(one))
    (doomed,) = two.table.packs
    write_tombstone(world.store.transport, [Doomed(doomed, 0, None)])
    for pack in one.table.packs:
        world.store.transport.delete(pack_key(pack))

    assert check(world.store, repair=True).ok

    assert doomed not in world.packs_of("one")
    for _ in range(3):
        world.clock.pass_by(2 * DAY)
        collect(world.store)
    assert doomed not in world.packs()
    reads_back(world, {"one": b"".join(chunks)})


def test_an_equal_chunk_that_is_damaged_too_is_no_help(world: World) -> None:
    chunks = [content(seed, 5_000) for seed in range(2)]
    one = stored(world.store.transport, chunks)
    two = stored(world.store.transport, chunks, salt=bytes(15) + b"x")
    world.store.transport.write("tree/one", encode_manifest(one))
    world.store.transport.delete(pack_key(one.table.packs[0]))
    world.change(pack_key(two.table.packs[0]), flip_some_data)

    (file,) = check(world.store, repair=True).affected

    assert len(file.chunks) == 1


def test_a_manifest_that_points_at_the_wrong_place_is_pointed_at_the_right_one(world: World) -> None:
    manifest = stored(world.store.transport, [content(1, 5_000), content(2, 5_000)])
    offset = manifest.table.offset.copy()
    offset[0] += 7
    wrong = replace(manifest, table=replace(manifest.table, offset=offset))
    world.store.transport.write("tree/file", encode_manifest(wrong))

    found = check(world.store)
    assert [problem.kind for problem in found.problems] == ["location-wrong", "chunks-lost"]
    assert check(world.store, repair=True).ok
    assert check(world.store, read_data=True).problems == ()
    reads_back(world, {"file": content(1, 5_000) + content(2, 5_000)})


def test_chunks_in_an_unknown_encoding_are_neither_called_damaged_nor_lost(world: World) -> None:
    data = content(1, 5_000)
    builder = PackBuilder(1 << 20)
    offset = builder.add(named(data), len(data), 200, (b"encoded in a way yet to come",))
    pack = builder.finish()
    world.store.transport.write(pack_key(pack.id), pack.data)
    manifest = stored(world.store.transport, [data])
    table = replace(
        manifest.table,
        packs=(pack.id,),
        offset=np.asarray([offset], np.uint32),
        stored=np.asarray([28], np.uint32),
        codec=np.asarray([200], np.uint8),
    )
    world.store.transport.write("tree/file", encode_manifest(replace(manifest, table=table)))

    report = check(world.store, read_data=True)
    assert [problem.kind for problem in report.problems] == ["chunk-unknown"]

    world.change(pack_key(pack.id), lambda data: data.__setitem__(9, 1))
    report = check(world.store, read_data=True, repair=True)
    assert pack.id in world.packs()  # nobody can tell whether the chunk is good, so it stays
    assert {problem.kind for problem in report.problems} == {"pack-damaged", "not-mended"}


def test_nothing_is_mended_while_a_manifest_of_a_newer_format_may_need_it(filled: World) -> None:
    pack = damaged_pack(filled, "models/a", flip_some_data)
    filled.store.transport.write("tree/newer", manifest_from_the_future())
    report = check(filled.store, read_data=True, repair=True)
    assert {problem.kind for problem in report.problems} == {
        "manifest-future",
        "pack-damaged",
        "chunks-lost",
        "not-mended",
    }
    assert pack in filled.packs()


def test_a_manifest_that_is_replaced_while_repair_runs_is_read_again(filled: World) -> None:
    """Its writer wins, and what it wrote is kept."""
    damaged_pack(filled, "models/a", flip_some_data)
    done = False

    def writer(verb: str, key: str) -> None:
        nonlocal done
        if key == "tree/models/a" and not done:
            done = True
            filled.put("models/a", FILES["models/b"])

    check(filled.process(before=writer), read_data=True, repair=True)

    assert done
    reads_back(filled, FILES | {"models/a": FILES["models/b"]})


def test_a_file_stored_while_repair_runs_is_mended_with_the_others(filled: World) -> None:
    """It was made of the damaged pack's good chunks just before that went."""
    damaged_pack(filled, "models/a", flip_the_salt)
    begun = False

    def writer(verb: str, key: str) -> None:
        nonlocal begun
        if key.startswith("care/damaged/") and not begun:
            begun = True
            filled.store.transport.write("tree/models/late", manifest)

    manifest = bytes(filled.store.transport.read("tree/models/a"))
    check(filled.process(before=writer), read_data=True, repair=True)

    assert begun
    reads_back(filled, FILES | {"models/late": FILES["models/a"]})


def test_a_file_that_could_not_be_made_whole_is_noted_for_those_who_keep_it_elsewhere(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    damaged_pack(filled, "models/b", flip_the_salt)
    filled.store.transport.write("tree/models/whole", b"no manifest")
    check(filled.store, read_data=True, repair=True)
    assert notes(filled.store.transport) == {note_of("tree/models/a"), note_of("tree/models/whole")}


def test_a_check_that_repairs_nothing_notes_nothing(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    check(filled.store, read_data=True)
    assert notes(filled.store.transport) == set()


def test_a_repair_that_reads_everything_takes_back_the_notes_of_files_that_are_whole_again(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    damaged_pack(filled, "models/b", flip_some_data)
    check(filled.store, read_data=True, repair=True)
    filled.put("models/a", FILES["models/a"])
    check(filled.store, repair=True)
    assert notes(filled.store.transport) == {note_of("tree/models/a"), note_of("tree/models/b")}
    check(filled.store, read_data=True, repair=True)
    assert notes(filled.store.transport) == {note_of("tree/models/b")}


def test_nothing_is_noted_while_something_of_a_newer_format_keeps_a_repair_from_its_work(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    filled.store.transport.write("tree/newer", manifest_from_the_future())
    check(filled.store, read_data=True, repair=True)
    assert notes(filled.store.transport) == set()


def test_repair_that_dies_before_any_change_can_be_run_again(filled: World) -> None:
    damaged_pack(filled, "models/a", flip_some_data)
    damaged_pack(filled, "models/b", truncate)
    before, clock = filled.snapshot(), copy.deepcopy(filled.clock)
    fate = Fate()
    check(filled.process(fate=fate), read_data=True, repair=True)
    assert fate.changes >= 6
    for dies_at in range(1, fate.changes + 1):
        filled.restore(before, clock)
        with pytest.raises(Crash):
            check(filled.process(dies_at=dies_at), read_data=True, repair=True)
        assert filled.store.open("models/whole").read() == FILES["models/whole"]
        check(filled.store, read_data=True, repair=True)
        for path, data in FILES.items():
            filled.store.put(io.BytesIO(data), path)
        assert check(filled.store, read_data=True).problems == ()
        reads_back(filled, FILES)
