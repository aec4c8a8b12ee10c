"""Packs cut short or deleted on a server: get and fsck name the pack and the file, and nothing is half written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.care.fsck import check
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.store import Store
from store.conftest import SMALL
from store.samples import noise

CONTENT = noise(300_000)

Spoil = Callable[[Store, str], None]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.service(name)) for name in ("ceph", "azure")])
def store(request: pytest.FixtureRequest) -> Store:
    """A store on a server, with two files of several packs each."""
    service: Service = request.getfixturevalue(request.param)
    store = Store.init(fresh_url(service), SMALL, service.options)
    store.put(io.BytesIO(CONTENT), "m/model.bin")
    store.put(io.BytesIO(noise(200_000, 1)), "m/other.bin")
    return store


def pack_of(store: Store, path: str) -> str:
    """The pack in the middle of a file."""
    packs = store.manifest(path).table.packs
    assert len(packs) > 3
    return packs[len(packs) // 2].hex()


def cut_short(store: Store, pack: str) -> None:
    key = f"packs/{pack[:2]}/{pack}"
    store.transport.write(key, bytes(store.transport.read(key))[:1000])


def delete(store: Store, pack: str) -> None:
    assert store.transport.delete(f"packs/{pack[:2]}/{pack}")


def test_a_get_names_a_pack_that_was_cut_short(store: Store, tmp_path: Path) -> None:
    pack = pack_of(store, "m/model.bin")
    cut_short(store, pack)
    told = rf"chunk [0-9a-f]{{16}} of m/model.bin in pack {pack[:16]} is damaged: the pack is cut short"
    with pytest.raises(ChunkDamaged, match=told):
        store.get("m/model.bin", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_get_names_a_pack_that_is_gone(store: Store, tmp_path: Path) -> None:
    pack = pack_of(store, "m/model.bin")
    delete(store, pack)
    with pytest.raises(PackMissing, match=rf"pack {pack[:16]} of m/model.bin is not in the store"):
        store.get("m", tmp_path / "back")
    assert not (tmp_path / "back" / "model.bin").exists()


@pytest.mark.parametrize(("spoil", "kind"), [(cut_short, "pack-damaged"), (delete, "pack-missing")])
def test_fsck_names_the_pack_and_the_file_that_needs_it(store: Store, spoil: Spoil, kind: str) -> None:
    assert check(store).ok
    pack = pack_of(store, "m/model.bin")
    spoil(store, pack)
    report = check(store)
    assert not report.ok
    assert [problem.pack for problem in report.problems if problem.kind == kind] == [pack]
    assert [file.path for file in report.affected] == ["m/model.bin"]
    assert [problem.path for problem in report.problems if problem.kind == "chunks-lost"] == ["m/model.bin"]


def test_what_was_put_again_is_whole(store: Store, tmp_path: Path) -> None:
    cut_short(store, pack_of(store, "m/model.bin"))
    assert not check(store, read_data=True, repair=True).ok
    store.put(io.BytesIO(CONTENT), "m/model.bin")
    store.get("m", tmp_path / "back")
    assert (tmp_path / "back" / "model.bin").read_bytes() == CONTENT
    assert check(store, read_data=True, repair=True).ok
