"""No manifest ever names a pack that is gone or set aside, whatever a collector does meanwhile."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from faults.crashing import Fate, mortal
from shardflow.store import sources
from shardflow.store.chunks import PlainChunks
from shardflow.store.errors import PackMissing
from shardflow.store.store import Store
from shardflow.store.tombstones import Doomed, write_tombstone

CONTENT = np.random.default_rng(3).integers(0, 256, 1_500_000, dtype=np.uint8).tobytes()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = tmp_path / "model.bin"
    model.write_bytes(CONTENT)
    return model


def set_aside_all(store: Store) -> set[bytes]:
    packs = set(store.manifest("v1").table.packs)
    write_tombstone(store.transport, [Doomed(pack, 0, None) for pack in packs])
    return packs


def delete_packs(store: Store) -> None:
    for info in list(store.transport.list("packs/")):
        store.transport.delete(info.key)


def test_chunks_in_packs_set_aside_are_copied_not_named(store: Store, model: Path) -> None:
    store.put(model, "v1")
    doomed = set_aside_all(store)

    report = store.put(model, "v2")

    assert report.bytes_reused == len(CONTENT)
    assert not doomed & set(store.manifest("v2").table.packs)
    for pack in doomed:
        store.transport.delete(f"packs/{pack.hex()[:2]}/{pack.hex()}")
    assert store.open("v2").read() == CONTENT


def test_a_pack_of_the_same_content_as_one_set_aside_gets_another_name(store: Store, model: Path) -> None:
    """No hint leads to the old pack, the writer builds it anew, and it would be deleted with the tombstone."""
    store.put(model, "v1")
    doomed = set_aside_all(store)
    store.rm("v1")
    for info in list(store.transport.list("hints/")):
        store.transport.delete(info.key)

    store.put(model, "v2")

    assert not doomed & set(store.manifest("v2").table.packs)
    assert store.open("v2").read() == CONTENT


def test_a_tombstone_that_appears_during_the_put_is_seen(store: Store, model: Path) -> None:
    store.put(model, "v1")
    doomed: set[bytes] = set()

    def collector(verb: str, key: str) -> None:
        if not doomed:
            doomed.update(set_aside_all(store))

    (model.parent / "v2").mkdir()
    (model.parent / "v2/model.bin").write_bytes(CONTENT + b"and more" * 10_000)
    mortal(store, Fate(before=collector)).put(model.parent / "v2", "v2")

    assert doomed
    assert not doomed & set(store.manifest("v2/model.bin").table.packs)


def test_packs_deleted_under_a_put_are_written_anew(store: Store, model: Path) -> None:
    store.put(model, "v1")
    fate = Fate()

    def collector(verb: str, key: str) -> None:
        if not fate.written:
            delete_packs(store)

    fate.before = collector
    (model.parent / "v2").mkdir()
    (model.parent / "v2/model.bin").write_bytes(CONTENT + b"and more" * 10_000)
    mortal(store, fate).put(model.parent / "v2", "v2")

    assert store.open("v2/model.bin").read() == CONTENT + b"and more" * 10_000


def test_a_stream_that_relied_on_deleted_packs_says_so_and_stores_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HEAD_BYTES", 1 << 16)  # a longer stream than is kept to be read again
    store.put(io.BytesIO(CONTENT), "v1")
    fate = Fate()

    def collector(verb: str, key: str) -> None:
        if not fate.written:
            delete_packs(store)

    fate.before = collector

    with pytest.raises(PackMissing, match="run the same command again"):
        mortal(store, fate).put(io.BytesIO(CONTENT + b"and more" * 10_000), "v1")

    assert store.manifest("v1").size == len(CONTENT)


def test_a_pack_missing_from_the_store_is_noticed_and_mended_by_putting_again(store: Store, model: Path) -> None:
    store.put(model, "v1")
    delete_packs(store)

    store.put(model, "v1")

    assert store.open("v1").read() == CONTENT


def test_of_two_writers_to_one_path_the_last_wins_whole(store: Store, model: Path) -> None:
    other = CONTENT[::-1]
    fate = Fate()

    def rival(verb: str, key: str) -> None:
        if key == "tree/v1" and fate.before is not None:
            fate.before = None
            store.put(io.BytesIO(other), "v1")

    fate.before = rival
    mortal(store, fate).put(model, "v1")

    assert store.open("v1").read() == CONTENT


def test_of_two_writers_that_must_not_replace_one_is_refused(store: Store, model: Path) -> None:
    from shardflow.store.errors import PathTaken

    fate = Fate()

    def rival(verb: str, key: str) -> None:
        if key == "tree/v1" and fate.before is not None:
            fate.before = None
            store.put(io.BytesIO(CONTENT[::-1]), "v1", replace=False)

    fate.before = rival
    with pytest.raises(PathTaken):
        mortal(store, fate).put(model, "v1", replace=False)

    assert store.open("v1").read() == CONTENT[::-1]


def test_a_get_of_what_is_repacked_under_it_goes_on_from_the_new_place(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(model, "v1")
    original, moved = PlainChunks.in_range, []

    def repacked_first(*arguments: object) -> object:
        if not moved:
            moved.append(store.manifest("v1").table.packs)
            store.put(io.BytesIO(CONTENT[:-1]), "v1")  # a new version in a pack of its own, then the old one again
            delete_packs(store)
            store.put(model, "v1")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PlainChunks, "in_range", repacked_first)
    old = store.manifest("v1")
    monkeypatch.setattr(store, "manifest", lambda path, plain=store.manifest: old if not moved else plain(path))

    store.get("v1", model.parent / "back.bin")

    assert (model.parent / "back.bin").read_bytes() == CONTENT
