"""The figures of a store add up exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardflow.store.care import spots
from shardflow.store.care.gc import collect
from shardflow.store.care.stats import StoreStats, measure
from shardflow.store.errors import PathMissing
from shardflow.store.manifest import encode_manifest
from store.care.world import DAY, World, content
from store.samples import stored


def adds_up(stats: StoreStats) -> None:
    saved = stats.saved_by_dedup + stats.saved_by_encoding + stats.saved_by_delta
    assert stats.logical - saved == stats.chunks_stored + stats.inline
    assert sum(share.chunks for share in stats.codecs) == stats.chunks
    assert sum(share.stored for share in stats.codecs) == stats.chunks_stored
    if stats.whole is not None and not stats.path:
        whole = stats.whole
        assert whole.pack_bytes == stats.chunks_stored + whole.slack + whole.unreferenced
        assert whole.set_aside <= whole.unreferenced


@pytest.fixture
def filled(world: World, tmp_path: Path) -> World:
    """Copies, things that compress, small files, and something removed."""
    text = b"the same sentence again and again; " * 3000
    for path, data in {
        "a/noise": content(1, 100_000),
        "a/copy": content(1, 100_000),
        "b/text": text,
        "b/mixed": content(1, 50_000) + text,
        "went": content(2, 80_000),
    }.items():
        world.put(path, data)
    (tmp_path / "small").write_bytes(b"x" * 500)
    world.store.put(tmp_path / "small", "b/small")
    world.store.rm("went")
    world.clock.pass_by(2 * DAY)
    return world


def test_an_empty_store_measures_nothing(world: World) -> None:
    stats = measure(world.store)
    adds_up(stats)
    assert (stats.files, stats.logical, stats.chunks, stats.unique_chunk_bytes) == (0, 0, 0, 0)


def test_the_figures_of_a_store_add_up(filled: World) -> None:
    stats = measure(filled.store)
    adds_up(stats)
    assert stats.files == 5
    assert stats.logical == 200_000 + 105_000 + 155_000 + 500
    assert stats.inline == 500
    assert stats.saved_by_dedup >= 100_000
    assert stats.saved_by_encoding > 100_000
    assert stats.saved_by_delta == 0
    assert 0 < stats.unique_chunk_bytes <= stats.logical - stats.inline - stats.saved_by_dedup
    assert {share.codec for share in stats.codecs} == {"raw", "zstd"}
    assert json.dumps(stats.as_dict())


def test_unreferenced_and_set_aside_bytes_are_told(filled: World) -> None:
    whole = measure(filled.store).whole
    assert whole is not None
    assert whole.unreferenced > 80_000
    assert whole.set_aside == 0
    collect(filled.store)
    after = measure(filled.store)
    adds_up(after)
    assert after.whole is not None
    assert after.whole.set_aside == whole.unreferenced
    assert after.whole.manifest_bytes == whole.manifest_bytes > 0


def test_a_part_of_a_store_is_measured_by_itself(filled: World) -> None:
    part = measure(filled.store, "a")
    adds_up(part)
    assert (part.path, part.files, part.logical, part.whole) == ("a", 2, 200_000, None)
    one = measure(filled.store, "b/small")
    adds_up(one)
    assert (one.files, one.logical, one.inline) == (1, 500, 500)


def test_a_missing_path_is_an_error(filled: World) -> None:
    with pytest.raises(PathMissing):
        measure(filled.store, "nothing/here")


def test_equal_chunks_stored_twice_count_as_stored_twice_and_unique_once(world: World) -> None:
    chunks = [content(1, 5_000)]
    for name, salt in (("one", bytes(16)), ("two", b"another salt 16b")):
        manifest = stored(world.store.transport, chunks, salt=salt)
        world.store.transport.write(f"tree/{name}", encode_manifest(manifest))
    stats = measure(world.store)
    adds_up(stats)
    assert (stats.chunks, stats.unique_chunk_bytes, stats.saved_by_dedup) == (2, 5_000, 0)


def test_what_deltas_save_is_less_what_only_their_bases_need(world: World) -> None:
    """Chunks coded against others are counted by the manifest alone; no codec has to know them."""
    chunks = [content(1, 5_000), content(2, 4_000), content(3, 3_000)]
    manifest = stored(world.store.transport, chunks)
    table = replace(
        manifest.table,
        base_count=np.asarray([0, 1, 0], np.uint8),
        base=np.asarray([0], np.uint32),
        stored=np.asarray([5_000, 100, 3_000], np.uint32),
    )
    sequence = np.asarray([1, 2], np.uint32)  # the first is only a base
    world.store.transport.write(
        "tree/file", encode_manifest(replace(manifest, size=7_000, table=table, sequence=sequence))
    )

    stats = measure(world.store)

    assert stats.logical - stats.saved_by_dedup - stats.saved_by_encoding - stats.saved_by_delta == stats.chunks_stored
    assert stats.saved_by_delta == 4_000 - 100 - 5_000
    assert stats.chunks_stored == 8_100


def test_empty_directories_are_counted_apart_from_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "dir/empty").mkdir(parents=True)
    world.store.put(tmp_path / "dir", "dir")
    stats = measure(world.store)
    assert (stats.files, stats.directories) == (0, 1)


def test_manifests_that_cannot_be_read_are_counted_and_left_out(filled: World) -> None:
    filled.store.transport.write("tree/a/copy", b"garbage")
    stats = measure(filled.store)
    adds_up(stats)
    assert (stats.files, stats.unreadable) == (4, 1)


def test_merging_in_small_steps_gives_the_same_figures(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measure(filled.store)
    monkeypatch.setattr(spots, "COMPACT_ABOVE", 3)
    assert measure(filled.store) == expected
