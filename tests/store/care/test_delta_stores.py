"""Care of a store whose versions are coded against each other: proven, mended, repacked and counted like any other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from delta import models
from delta.models import as_file, merged, model, trained
from shardflow.store.care.chunks import BasePlaces, BaseUnreadable, Verdict, verdict
from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.care.moving import row_entry
from shardflow.store.care.repack import repack
from shardflow.store.care.stats import measure
from shardflow.store.pack import PackEntry, pack_key
from shardflow.store.store import Store
from store.conftest import SMALL
from store.samples import flipped, named

FILES = {
    "v1": as_file(model()),
    "v2": as_file(trained(model(), 1e-7)),
    "v3": as_file(trained(trained(model(), 1e-7), 1e-7, seed=102)),
    "tuned": as_file(merged(model(), models.adapter(strength=3))),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four versions on memory, each in packs of its own."""
    place = f"shardflow://memory/care-{tmp_path.name}"
    store = Store.init(place, msgspec.structs.replace(SMALL, chunk_bytes=256 << 10, pack_bytes=4 << 20))
    for path, file in FILES.items():
        (tmp_path / "source").write_bytes(file)
        store.put(tmp_path / "source", path)
    return store


def everything_comes_back(store: Store) -> bool:
    for path, file in FILES.items():
        with store.open(path) as reader:
            if reader.read() != file:
                return False
    return True


def own_pack(store: Store, path: str) -> bytes:
    """A pack in which chunks of the file itself lie."""
    manifest = store.manifest(path)
    deltas = [row for row in manifest.sequence.tolist() if manifest.table.base_count[row]]
    return manifest.table.packs[int(manifest.table.pack[deltas[0]])]


def damage(store: Store, pack: bytes) -> None:
    key = pack_key(pack)
    data = bytes(store.transport.read(key))
    store.transport.write(key, flipped(data, 8 * (len(data) // 2)))


def test_every_chunk_is_proven_with_what_it_rests_on(store: Store) -> None:
    report = check(store, read_data=True)
    assert report.ok
    assert (report.packs_read, report.never_read, report.problems) == (report.packs, 0, ())


def test_an_encoding_that_does_not_lead_back_is_found_though_its_pack_is_as_it_was_written(store: Store) -> None:
    table = store.manifest("v2").table
    places = BasePlaces(store.transport)
    places.add(store.manifest("v2"))
    [row, *_] = np.flatnonzero(table.base_count).tolist()
    entry = row_entry(table, row)
    stored = bytes(store.transport.read_range(pack_key(table.packs[table.pack[row]]), entry.offset, entry.stored))
    assert verdict(entry, stored, places) is Verdict.GOOD
    assert verdict(entry, flipped(stored, 8 * (len(stored) // 2)), places) is Verdict.DAMAGED
    assert verdict(entry, stored) is Verdict.UNPROVEN
    assert verdict(entry, stored, BasePlaces(store.transport)) is Verdict.UNPROVEN


def test_an_endless_chain_is_not_followed(store: Store) -> None:
    places = BasePlaces(store.transport)
    with pytest.raises(BaseUnreadable, match="named by no file"):
        places.plain(PackEntry(named(b"a"), 24, 1, 1, 16, (named(b"b"),)))
    with pytest.raises(BaseUnreadable, match="more than 100"):
        places.plain(PackEntry(named(b"a"), 24, 1, 1, 16, (named(b"b"),)), depth=101)


def test_damage_of_a_base_shows_in_every_file_that_rests_on_it(store: Store) -> None:
    damage(store, own_pack(store, "v2"))
    affected = {file.path for file in check(store, read_data=True).affected}
    assert {"v2", "v3"} <= affected
    assert "v1" not in affected


def test_putting_a_damaged_base_again_mends_all_that_rest_on_it(store: Store, tmp_path: Path) -> None:
    damage(store, own_pack(store, "v2"))
    assert check(store, read_data=True, repair=True).affected
    for path in ("v2", "v3"):
        (tmp_path / "source").write_bytes(FILES[path])
        store.put(tmp_path / "source", path)
    assert everything_comes_back(store)
    assert check(store, read_data=True).ok


def test_good_deltas_are_saved_out_of_a_damaged_pack(store: Store) -> None:
    pack = own_pack(store, "v3")
    damage(store, pack)
    report = check(store, read_data=True, repair=True)
    assert report.mended is not None
    assert report.mended.chunks_saved > 0
    lacking = {chunk.chunk for file in report.affected for chunk in file.chunks}
    assert len(lacking) <= 1


def test_repacking_moves_deltas_and_their_bases_as_they_are(store: Store) -> None:
    before = len(list(store.transport.list("packs/")))
    report = repack(store, small=1.0)
    for _ in range(2):
        collect(store, grace=0)
    assert report.chunks_damaged == 0
    assert len(list(store.transport.list("packs/"))) < before
    assert everything_comes_back(store)


def test_what_deltas_save_is_counted(store: Store) -> None:
    stats = measure(store)
    assert stats.saved_by_delta > 0.3 * len(FILES["v1"])
    assert {"delta", "lowrank"} <= {share.codec for share in stats.codecs}
