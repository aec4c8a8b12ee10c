"""fsck finds every kind of damage, says which files suffer from it, and finds nothing in a sound store."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from shardflow.store.care import fsck
from shardflow.store.care.fsck import FsckReport, check
from shardflow.store.care.problems import Problem
from shardflow.store.care.progress import CareProgress
from shardflow.store.errors import ManifestDamaged
from shardflow.store.pack import TAIL_BYTES, pack_key
from shardflow.transport import ObjectInfo, ReadOnlyTarget, Transport
from store.care.world import World, content
from store.samples import manifest_from_the_future


@pytest.fixture
def filled(world: World) -> World:
    world.put("models/a", content(1, 150_000))
    world.put("models/b", content(2, 100_000))
    world.put("small", b"inline")
    return world


def largest_pack(world: World, path: str) -> str:
    packs = [world.store.transport.head(pack_key(pack)) for pack in world.packs_of(path)]
    return max(packs, key=lambda info: info.size).key


def kinds(report: FsckReport) -> list[str]:
    return sorted(problem.kind for problem in report.problems)


def flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def test_a_sound_store_has_no_problems(filled: World) -> None:
    report = check(filled.store, read_data=True)
    assert report.ok
    assert report.problems == report.affected == ()
    assert (report.manifests, report.packs) == (3, len(filled.packs()))
    assert report.packs_read == report.packs
    assert report.bytes_read == report.pack_bytes
    assert report.never_read == 0
    assert json.dumps(report.as_dict())


def test_an_empty_store_has_no_problems(world: World) -> None:
    report = check(world.store, read_data=True)
    assert report.ok
    assert report.oldest_unverified is None


def test_a_flipped_bit_is_found_by_reading_and_the_file_and_chunk_are_named(filled: World) -> None:
    key = largest_pack(filled, "models/a")
    filled.change(key, flip(5000))
    assert check(filled.store).ok

    report = check(filled.store, read_data=True)

    assert not report.ok
    assert kinds(report) == ["chunks-lost", "pack-damaged"]
    (file,) = report.affected
    (chunk,) = file.chunks
    assert file.path == "models/a"
    assert chunk.pack == key[-64:]
    manifest = filled.store.manifest("models/a")
    assert bytes.fromhex(chunk.chunk) in {manifest.table.id(row) for row in range(len(manifest.table))}
    assert 0 < chunk.size <= 16 << 10


@pytest.mark.parametrize("at", [-4, -20, -TAIL_BYTES - 3], ids=["magic", "digest", "index"])
def test_a_damaged_index_is_found_without_reading_the_data(filled: World, at: int) -> None:
    """The chunks are all there still, so no file suffers."""
    key = largest_pack(filled, "models/a")
    filled.change(key, flip(at))
    report = check(filled.store)
    assert kinds(report) == ["pack-damaged"]
    assert report.problems[0].pack == key[-64:]
    assert report.affected == ()


def test_a_truncated_pack_is_found_without_reading_the_data(filled: World) -> None:
    key = largest_pack(filled, "models/a")

    def truncate(data: bytearray) -> None:
        del data[20_000:]

    filled.change(key, truncate)
    report = check(filled.store)
    assert kinds(report) == ["chunks-lost", "pack-damaged"]
    assert [file.path for file in report.affected] == ["models/a"]
    lost = sum(chunk.size for chunk in report.affected[0].chunks)
    assert 0 < lost < 150_000


@pytest.mark.parametrize("length", [0, 1, 43, 67])
def test_a_pack_too_short_to_be_one_is_damaged(filled: World, length: int) -> None:
    def truncate(data: bytearray) -> None:
        del data[length:]

    filled.change(largest_pack(filled, "models/a"), truncate)
    assert kinds(check(filled.store, read_data=True)) == ["chunks-lost", "pack-damaged"]


def test_a_deleted_pack_is_missed_and_every_file_that_needs_it_is_named(filled: World) -> None:
    filled.put("models/copy", content(1, 150_000))
    key = largest_pack(filled, "models/a")
    filled.store.transport.delete(key)
    report = check(filled.store)
    assert kinds(report) == ["chunks-lost", "pack-missing"] or kinds(report) == ["chunks-lost"] * 2 + ["pack-missing"]
    assert "models/a" in {file.path for file in report.affected}
    assert all(str(problem) for problem in report.problems)


def test_a_pack_written_after_the_packs_were_listed_is_not_missed(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed_before(transport: Transport) -> dict[bytes, ObjectInfo]:
        return {}

    monkeypatch.setattr(fsck, "listed_packs", listed_before)
    assert check(filled.store).ok


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"garbage", "manifest-damaged"), (manifest_from_the_future(), "manifest-future")],
    ids=["garbage", "from the future"],
)
def test_a_manifest_that_cannot_be_read_is_named(filled: World, data: bytes, kind: str) -> None:
    filled.store.transport.write("tree/models/a", data)
    report = check(filled.store)
    assert kinds(report) == [kind]
    assert report.problems[0].path == "models/a"
    assert not report.ok


def test_a_damaged_unused_pack_is_found_too(filled: World) -> None:
    key = largest_pack(filled, "models/a")
    filled.store.rm("models/a")
    filled.change(key, flip(-4))
    assert kinds(check(filled.store)) == ["pack-damaged"]


def test_a_pack_of_a_future_format_is_not_called_damaged(filled: World) -> None:
    def future(data: bytearray) -> None:
        data[-1] = 2

    filled.change(largest_pack(filled, "models/a"), future)
    report = check(filled.store)
    assert kinds(report) == ["pack-future"]
    assert "upgrade" in report.problems[0].remedy


def test_a_tombstone_that_does_not_parse_is_found_and_removed_by_repair(filled: World) -> None:
    filled.store.transport.write("trash/broken", b"\xff\xff")
    with pytest.raises(ManifestDamaged, match="trash/broken"):
        filled.put("new", content(3))

    assert kinds(check(filled.store)) == ["tombstone-damaged"]
    assert not check(filled.store).ok
    assert check(filled.store, repair=True).ok
    assert check(filled.store).ok
    filled.put("new", content(3))


def test_foreign_objects_are_told_of_and_are_no_damage(filled: World) -> None:
    foreign = ["notes.txt", "backup/old", "packs/readme", "packs/ab/" + "AB" * 32, "hints/x/zzz", "tree/%zz"]
    for key in foreign:
        filled.store.transport.write(key, b"hello")
    report = check(filled.store)
    assert kinds(report) == ["foreign-object"] * len(foreign)
    assert {problem.key for problem in report.problems} == {*foreign, "backup/"} - {"backup/old"}
    assert report.ok


def test_problems_are_told_as_they_are_found(filled: World) -> None:
    filled.store.transport.delete(largest_pack(filled, "models/a"))
    told: list[Problem] = []
    progress = CareProgress()
    report = check(filled.store, on_problem=told.append, progress=progress)
    assert tuple(told) == report.problems
    assert progress.phase


def test_a_store_that_takes_no_writes_can_be_checked(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ReadOnlyTarget("cannot write")

    monkeypatch.setattr(type(filled.store.transport), "write", refuse)
    monkeypatch.setattr(type(filled.store.transport), "clock", refuse)
    report = check(filled.store, read_data=True)
    assert report.ok
    assert not report.saved
