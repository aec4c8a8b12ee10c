"""Damage that a repair could not undo: the next push sends what is lost, and nobody takes it for stored before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import Project
from dvc_support.places import Place
from shardflow.store.care.fsck import check
from shardflow.store.config import Settings
from shardflow.store.lacking import notes
from shardflow.store.pack import pack_key
from shardflow.store.paths import key_of
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]
COUNT = 3
SMALL = Settings(inline_bytes=64)  # DVC's listing of a directory is in a pack then, as that of a thousand files is


@pytest.fixture
def filled(disk: Place, tmp_path: Path, noise: Noise) -> Project:
    """A project with its remote on the local disk."""
    return pushed(disk, tmp_path / "here", noise)


def pushed(place: Place, root: Path, noise: Noise) -> Project:
    """A project with what `added` gives, all pushed."""
    here = added(place, root, noise)
    here.must("push")
    here.commit()
    return here


def added(place: Place, root: Path, noise: Noise) -> Project:
    """A project that tracks a large file, a small one and a directory."""
    Store.init(place.url, SMALL, place.options)
    here = place.project(root)
    (here.root / "weights.bin").write_bytes(noise(700_000))
    (here.root / "data").mkdir()
    for number in range(COUNT):
        (here.root / "data" / f"{number}.bin").write_bytes(bytes([number]) + noise(600_000)[number:])
    (here.root / "notes.txt").write_text("notes")
    here.must("add", "weights.bin", "notes.txt", "data")
    return here


def as_of_dvc_2(project: Project) -> None:
    """What it tracks as DVC 2 left it, which has objects right below the cache and the remote."""
    cache = project.root / ".dvc" / "cache"
    for directory in (cache / "files" / "md5").iterdir():
        directory.rename(cache / directory.name)
    for file in project.root.glob("?*.dvc"):
        file.write_text(file.read_text().replace("  hash: md5\n", ""))


def stored_at(project: Project, name: str) -> str:
    """Where the store has a file that DVC tracks by itself, or the listing of a directory."""
    md5 = project.run("grep", "-oE", "md5: [0-9a-f]{32}(\\.dir)?", f"{name}.dvc").out.split()[1]
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def listed_at(project: Project, name: str) -> str:
    """Where the store has a file of a directory that DVC tracks."""
    directory, name = name.split("/")
    listing = project.root / ".dvc" / "cache" / stored_at(project, directory)
    (md5,) = [each["md5"] for each in json.loads(listing.read_text()) if each["relpath"] == name]
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def status(project: Project) -> dict[str, str]:
    """What `dvc status -c` says of each file that is not both in the cache and in the remote."""
    return dict(json.loads(project.must("status", "-c", "--json").splitlines()[0]))


def not_in_remote(project: Project) -> list[str]:
    done = project.dvc("data", "status", "--not-in-remote", "--json")
    return list(json.loads(done.out).get("not_in_remote", []))


def damage(place: Place, path: str) -> None:
    """Flip a bit of a stored file's first chunk."""
    table = place.store.manifest(path).table
    pack = pack_key(table.packs[int(table.pack[0])])
    data = bytearray(place.store.transport.read(pack))
    data[int(table.offset[0])] ^= 1
    place.store.transport.write(pack, bytes(data))


def repair(place: Place) -> list[str]:
    """What a repair could not make whole."""
    return [file.path for file in check(place.store, read_data=True, repair=True).affected]


def comes_back(project: Project, there: Path, name: str) -> None:
    clone = elsewhere(project, there)
    clone.must("pull")
    assert (clone.root / name).read_bytes() == (project.root / name).read_bytes()


def elsewhere(project: Project, there: Path) -> Project:
    """A clone on another machine, which knows nothing of what was pushed before."""
    clone = project.clone(there)
    clone.must("config", "--local", "core.site_cache_dir", str(there.with_suffix(".site")))
    return clone


def test_what_a_repair_could_not_save_is_sent_again_by_the_next_push(
    place: Place, tmp_path: Path, noise: Noise
) -> None:
    here = pushed(place, tmp_path / "here", noise)
    damage(place, path := listed_at(here, "data/1.bin"))
    assert repair(place) == [path]
    assert status(here) == {"data": "new", "data/1.bin": "new"}
    assert not_in_remote(here) == ["data/"]

    said = here.must("push")
    assert "2 files pushed" in said
    assert "count as not there until they are pushed again" in said

    assert status(here) == {}
    assert check(place.store, read_data=True).ok
    comes_back(here, tmp_path / "there", "data/1.bin")


@pytest.mark.parametrize("name", ["weights.bin", "data"])
def test_so_is_what_dvc_tracks_by_itself_and_a_listing_of_a_directory(
    filled: Project, disk: Place, tmp_path: Path, name: str
) -> None:
    damage(disk, path := stored_at(filled, name))
    assert repair(disk) == [path]
    assert status(filled) == {name: "new"}
    assert "1 file pushed" in filled.must("push")
    assert status(filled) == {}
    comes_back(filled, tmp_path / "there", "data/0.bin")
    assert check(disk.store, read_data=True).ok


@pytest.mark.parametrize("name", ["weights.bin", "notes.txt"])
def test_a_damaged_manifest_is_sent_again_too(filled: Project, disk: Place, tmp_path: Path, name: str) -> None:
    path = stored_at(filled, name)
    disk.store.transport.write(key_of(path), b"nothing that was ever stored")
    repair(disk)
    filled.must("push")
    assert notes(disk.store.transport) == set()
    comes_back(filled, tmp_path / "there", name)


def test_objects_of_dvc_2_are_sent_again_too(disk: Place, tmp_path: Path, noise: Noise) -> None:
    here = added(disk, tmp_path / "here", noise)
    objects = [listed_at(here, "data/1.bin"), stored_at(here, "weights.bin")]
    as_of_dvc_2(here)
    here.must("push")
    paths = [path.removeprefix("files/md5/") for path in objects]
    for path in paths:
        damage(disk, path)
    assert sorted(repair(disk)) == sorted(paths)
    assert status(here) == {"data": "new", "data/1.bin": "new", "weights.bin": "new"}
    here.must("push")
    assert status(here) == {}
    assert notes(disk.store.transport) == set()
    assert check(disk.store, read_data=True).ok


def test_another_machine_with_a_full_cache_sends_it_as_well(filled: Project, disk: Place, tmp_path: Path) -> None:
    there = elsewhere(filled, tmp_path / "there")
    there.must("pull")
    damage(disk, listed_at(filled, "data/1.bin"))
    repair(disk)
    assert "2 files pushed" in there.must("push")
    assert status(filled) == status(there) == {}


def test_until_then_a_fetch_fails_and_says_why(filled: Project, disk: Place, tmp_path: Path) -> None:
    """All else is fetched, and the next push knows nevertheless that the directory is not whole."""
    damage(disk, path := listed_at(filled, "data/1.bin"))
    repair(disk)
    there = elsewhere(filled, tmp_path / "there")
    fetched = there.dvc("fetch")
    assert fetched.code != 0
    assert f"of {path} is not in the store" in fetched.all
    assert len(list((there.root / ".dvc" / "cache" / "files" / "md5").glob("*/[0-9a-f]*"))) == 2 + COUNT - 1
    assert "in sync" not in filled.must("status", "-c")


def test_data_that_goes_straight_to_the_remote_is_sent_again_too(filled: Project, disk: Place, tmp_path: Path) -> None:
    damage(disk, path := stored_at(filled, "weights.bin"))
    assert repair(disk) == [path]
    filled.must("add", "--to-remote", str(filled.root / "weights.bin"), "-o", "again.bin")
    assert notes(disk.store.transport) == set()
    assert check(disk.store, read_data=True).ok
