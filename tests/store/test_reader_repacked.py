"""A reader outlives a repack of what it reads, tells what is really gone, and takes from the cache what is whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shardflow.store.cache import ChunkCache
from shardflow.store.errors import PackMissing
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.store.reader import Reader
from shardflow.transport import ByteBudget, Totals, Transport
from store.opening import CHUNKS, CONTENT, SEQUENCE, opened
from store.samples import flipped, in_memory, stored


def moved(place: Transport, manifest: Manifest, sequence: list[bytes]) -> Manifest:
    """The same content in other packs and another order of rows, and the old packs gone."""
    fresh = stored(place, sequence, per_pack=1, salt=b"s" * 16)
    table = fresh.table
    rows = list(range(len(table)))[::-1]
    turned = type(table)(
        table.packs,
        *(getattr(table, name)[rows] for name in ("chunk", "pack", "offset", "stored", "size", "codec", "base_count")),
        table.base,
    )
    for pack in manifest.table.packs:
        place.delete(pack_key(pack))
    last = len(table) - 1
    return Manifest(fresh.size, fresh.digest, table=turned, sequence=last - fresh.sequence)


def repacked_while_open(content: list[bytes], reload: Callable[[Manifest, Manifest], Manifest]) -> Reader:
    place = in_memory()
    old = stored(place, SEQUENCE)
    new: list[Manifest] = []
    reader = opened(place, old, reload=lambda: reload(old, new[0]))
    assert reader.read(700) == CONTENT[:700]
    new.append(moved(place, old, content))
    return reader


def test_a_repack_while_it_is_open_goes_unnoticed() -> None:
    with repacked_while_open(SEQUENCE, lambda _, new: new) as reader:
        assert reader.read() == CONTENT[700:]
        assert reader.read_at(0, len(CONTENT)) == CONTENT


def test_a_repack_goes_unnoticed_by_many_threads() -> None:
    """One of them loads the new manifest, the others find it loaded; none mixes the two."""
    for _ in range(5):
        with repacked_while_open(SEQUENCE, lambda _, new: new) as reader, ThreadPoolExecutor(8) as pool:
            starts = [700 + 531 * turn for turn in range(10)]
            found = pool.map(lambda start, reader=reader: reader.read_at(start, 900), starts)
            assert list(found) == [CONTENT[start : start + 900] for start in starts]


def test_another_content_put_in_its_place_is_not_mixed_in() -> None:
    with repacked_while_open(SEQUENCE[::-1], lambda _, new: new) as reader, pytest.raises(PackMissing):
        reader.read()


def test_a_pack_that_is_really_gone_is_told() -> None:
    with repacked_while_open(SEQUENCE, lambda old, _: old) as reader:
        assert reader.read(200) == CONTENT[700:900], "the chunk that was kept"
        with pytest.raises(PackMissing, match="of m is not in the store"):
            reader.read()


def test_the_cache_serves_what_was_read_before(tmp_path: Path) -> None:
    place, totals = in_memory(), Totals()
    manifest = stored(place, SEQUENCE)
    for _ in range(2):
        with opened(place.session(totals=totals), manifest, cache=ChunkCache(tmp_path, 1 << 20)) as reader:
            assert reader.read() == CONTENT
    assert totals.bytes_received == sum(map(len, CHUNKS))


def test_a_damaged_cache_costs_a_fetch_and_nothing_else(tmp_path: Path) -> None:
    place, totals = in_memory(), Totals()
    manifest = stored(place, SEQUENCE)
    cache = ChunkCache(tmp_path, 1 << 20)
    with opened(place, manifest, cache=cache) as reader:
        reader.read()
    for entry in cache.directory.glob("*/*"):
        entry.write_bytes(flipped(entry.read_bytes(), 4))
    with opened(place.session(totals=totals), manifest, cache=cache) as reader:
        assert reader.read() == CONTENT
    assert totals.bytes_received == sum(map(len, CHUNKS))


def test_the_budget_is_given_back_whatever_happens() -> None:
    place = in_memory()
    manifest = stored(place, SEQUENCE, per_pack=1)
    budget = ByteBudget(1 << 20)  # less than one range needs: then ranges are read one by one
    with Reader("m", place, manifest, budget) as reader:
        assert reader.read() == CONTENT
        place.delete(pack_key(manifest.table.packs[0]))
        with pytest.raises(PackMissing):
            reader.read_at(0, len(CONTENT))
    assert budget.out == 0
