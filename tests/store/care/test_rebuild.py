"""Hints and the knowledge of what packs hold can be made anew from what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.store.care.rebuild import pack_contents, rebuild_hints, repoint
from shardflow.store.errors import ManifestDamaged, PackDamaged
from shardflow.store.hints import read_hint
from shardflow.store.manifest import encode_manifest
from shardflow.store.pack import pack_key
from shardflow.store.paths import key_of
from store.care.world import World, content, reads_back
from store.samples import named, stored


def hints(world: World) -> dict[str, bytes]:
    return {key: bytes(world.store.transport.read(key)) for key in world.keys("hints/")}


def test_lost_hints_are_written_as_they_were_and_serve_again(world: World, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).write_bytes(content(seed, 1_200_000))
        world.store.put(tmp_path / name, name)
    before = hints(world)
    for key in before:
        world.store.transport.delete(key)

    report = rebuild_hints(world.store)

    assert hints(world) == before
    assert (report.manifests, report.hints) == (2, len(before))
    (tmp_path / "other name").write_bytes(content(1, 1_200_000))
    assert world.store.put(tmp_path / "other name", "three").bytes_reused == 1_200_000


def test_where_files_share_a_slot_the_newest_has_it(world: World, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(content(1, 1_100_000))
    paths = [path for path in map(str, range(1000)) if named(key_of(path).encode())[0] % 64 == 7]
    for path in paths[:3]:
        world.store.put(source, path)
    before = hints(world)
    assert all(key.endswith("/07") for key in before)
    for key in before:
        world.store.transport.delete(key)
    rebuild_hints(world.store)
    assert hints(world) == before


def test_rebuilding_hints_repairs_those_that_do_not_parse(world: World, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(content(1, 1_200_000))
    world.store.put(tmp_path / "one", "one")
    key = world.keys("hints/")[0]
    world.store.transport.write(key, b"\xff")
    rebuild_hints(world.store)
    hint = read_hint(world.store.transport, key)
    assert hint is not None
    assert "one" in hint.path


def test_a_manifest_that_cannot_be_read_is_an_error(world: World) -> None:
    world.store.transport.write("tree/bad", b"garbage")
    with pytest.raises(ManifestDamaged, match="bad"):
        rebuild_hints(world.store)


def test_what_packs_hold_is_read_from_the_packs_alone(world: World) -> None:
    world.put("model", content(1, 150_000))
    manifest = world.store.manifest("model")
    wanted = {manifest.table.id(row) for row in range(len(manifest.table))}
    world.store.rm("model")
    found = dict(pack_contents(world.store))
    assert {entry.chunk for entries in found.values() if isinstance(entries, list) for entry in entries} == wanted


def test_a_pack_without_an_index_is_told_of_among_the_others(world: World) -> None:
    world.put("model", content(1, 150_000))
    key = world.keys("packs/")[0]
    world.change(key, lambda data: data.__delitem__(slice(100, None)))
    found = dict(pack_contents(world.store))
    assert isinstance(found.pop(bytes.fromhex(key[-64:])), PackDamaged)
    assert all(isinstance(entries, list) for entries in found.values())


def test_manifests_of_lost_packs_are_pointed_at_others_with_the_same_chunks(world: World) -> None:
    chunks = [content(seed, 5_000) for seed in range(6)]
    one = stored(world.store.transport, chunks)
    stored(world.store.transport, chunks, per_pack=6)
    world.store.transport.write("tree/one", encode_manifest(one))
    for pack in one.table.packs:
        world.store.transport.delete(pack_key(pack))

    report = repoint(world.store)

    assert report.ok
    assert (report.packs_missing, report.chunks_found, report.manifests_rewritten) == (2, 6, 1)
    reads_back(world, {"one": b"".join(chunks)})
    assert repoint(world.store).packs_missing == 0


def test_what_is_nowhere_is_named(world: World) -> None:
    one = stored(world.store.transport, [content(seed, 5_000) for seed in range(6)])
    stored(world.store.transport, [content(seed, 5_000) for seed in range(5)], per_pack=5)
    world.store.transport.write("tree/one", encode_manifest(one))
    for pack in one.table.packs:
        world.store.transport.delete(pack_key(pack))
    report = repoint(world.store)
    assert not report.ok
    assert report.chunks_found == 5
    assert [(file.path, [chunk.start for chunk in file.chunks]) for file in report.affected] == [("one", [25_000])]
    assert report.as_dict()["ok"] is False
