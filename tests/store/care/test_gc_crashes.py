"""A collection may die before any of its changes: nothing reachable is lost, and the next ones finish its work."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from faults.crashing import Crash, Fate
from shardflow.store.care.gc import collect
from store.care.world import DAY, World, content, reads_back

KEPT = {"stays": content(1), "also/stays": content(4)}


@pytest.fixture
def used_and_unused(world: World) -> World:
    """Packs in every state: in use, unused, set aside and due, released."""
    for path, data in KEPT.items():
        world.put(path, data)
    for seed in (2, 3, 5):
        world.put("went", content(seed, 150_000))
        world.store.rm("went")
        world.clock.pass_by(2 * DAY)
        collect(world.store)
        world.clock.pass_by(DAY)
    world.put("went", content(6))
    world.store.rm("went")
    world.clock.pass_by(DAY)
    return world


def deaths(world: World, work: Callable[[Fate], object]) -> int:
    """Play the work through with a death before each of its changes; what follows must hold after every one."""
    before, clock = world.snapshot(), copy.deepcopy(world.clock)
    fate = Fate()
    work(fate)
    for dies_at in range(1, fate.changes + 1):
        world.restore(before, clock)
        with pytest.raises(Crash):
            work(Fate(dies_at=dies_at))
        reads_back(world, KEPT)
        for _ in range(4):
            collect(world.store)
            world.clock.pass_by(DAY)
            reads_back(world, KEPT)
        assert world.packs() == world.packs_of("stays") | world.packs_of("also/stays")
        assert world.keys("trash/") == []
    return fate.changes


def test_a_collection_that_dies_before_any_change_is_finished_by_the_next_ones(used_and_unused: World) -> None:
    changes = deaths(used_and_unused, lambda fate: collect(used_and_unused.process(fate=fate)))
    assert changes >= 5  # a tombstone, some packs, a release, a tombstone that goes
