"""A trail knows what came next in earlier versions, and takes up only those that were cut by content."""

from __future__ import annotations

import pytest

from shardflow.store.bases import Known
from shardflow.store.catalog import Catalog
from shardflow.store.gear import Gear
from shardflow.store.manifest import Manifest
from shardflow.store.trail import Trail, trail_of
from store.samples import cut_by, named, noise, taken_up

GEAR = Gear(64, 128, 512)
Chunks = list[tuple[bytes, bytes]]


def chunks(*sizes: int, seed: int = 0) -> Chunks:
    made = [noise(size, seed + number) for number, size in enumerate(sizes)]
    return [(named(data), data) for data in made]


def trail(*versions: Chunks) -> Trail:
    catalog = Catalog()
    found = trail_of(catalog, [taken_up(catalog, version) for version in versions], GEAR)
    assert found is not None
    return found


def steps(version: Chunks) -> list[tuple[bytes, int]]:
    return [(name, len(data)) for name, data in version]


@pytest.mark.parametrize(("room", "fit"), [(0, 0), (99, 0), (100, 1), (399, 2), (400, 3), (5000, 3)])
def test_the_chunks_that_come_next_are_those_that_fit(room: int, fit: int) -> None:
    version = chunks(100, 200, 100, 300)
    for final in (False, True):
        assert trail(version).fitting(0, room, final=final) == steps(version)[:fit]


def test_the_last_chunk_fits_only_where_the_new_file_ends_with_it() -> None:
    version = chunks(100, 200, 100, 300)
    assert trail(version).fitting(1, 600, final=True) == steps(version)[1:]
    assert trail(version).fitting(1, 600, final=False) == steps(version)[1:3]
    assert trail(version).fitting(1, 601, final=True) == steps(version)[1:3]
    assert trail(version).fitting(3, 300, final=True) == steps(version)[3:]
    assert trail(version).fitting(3, 301, final=True) == []


def test_one_version_does_not_go_on_in_the_next() -> None:
    first, second = chunks(300, 300), chunks(400, 400, seed=5)
    both = trail(first, second)
    assert both.fitting(0, 5000, final=True) == steps(first)[:1]
    assert both.fitting(2, 5000, final=True) == steps(second)[:1]
    assert both.after(first[0][0]) == 1
    assert both.after(first[1][0]) is None
    assert both.after(second[0][0]) == 3


def test_behind_a_chunk_comes_the_next_one_of_its_version() -> None:
    both = trail(chunks(300, 301), chunks(302, 303, seed=5))
    assert [both.size(at) for at in range(4)] == [300, 301, 302, 303]
    assert [both.behind(at) for at in range(4)] == [1, None, 3, None]


def test_a_chunk_that_comes_several_times_is_found_where_it_comes_first() -> None:
    one, two, three = chunks(200, 300, 400)
    repeated = trail([two, one, two, one, three])
    assert repeated.after(two[0]) == 1
    assert repeated.after(one[0]) == 2
    assert repeated.fitting(1, 700, final=False) == steps([one, two, one])


def test_a_chunk_that_no_version_has_is_not_found() -> None:
    catalog = Catalog()
    version, other = taken_up(catalog, chunks(300, 300)), chunks(300, 300, seed=9)
    found = trail_of(catalog, [version], GEAR)
    taken_up(catalog, other)  # known to the catalog all the same
    assert found is not None
    assert [found.after(other[0][0]), found.after(bytes(32))] == [None, None]


def test_only_what_was_cut_by_content_with_these_sizes_is_taken_up() -> None:
    catalog = Catalog()
    of_tensors = taken_up(catalog, chunks(300, 300), layout="safetensors")
    cut_at_fixed_sizes = taken_up(catalog, chunks(GEAR.maximum))
    too_short_a_chunk = taken_up(catalog, chunks(63, 300, 300))
    too_long_a_chunk = taken_up(catalog, chunks(513, 300))
    nothing = taken_up(catalog, [])
    inline = Known("inline", Manifest(1000, bytes(32), inline=noise(1000)), [])
    assert trail_of(catalog, [], GEAR) is None
    unfit = [of_tensors, cut_at_fixed_sizes, too_short_a_chunk, too_long_a_chunk, nothing, inline]
    assert trail_of(catalog, unfit, GEAR) is None
    last_of_any_size = taken_up(catalog, chunks(300, 300, 1))
    assert trail_of(catalog, [*unfit, last_of_any_size], GEAR) is not None


def test_the_same_content_under_several_paths_is_one_version() -> None:
    first, second = cut_by(GEAR, noise(3000)), cut_by(GEAR, noise(3000, 1))
    both = trail(first, second, first)
    assert both.after(first[0][0]) == 1
    assert both.after(second[0][0]) == len(first) + 1
    with pytest.raises(IndexError):
        both.fitting(len(first) + len(second), 100, final=False)
