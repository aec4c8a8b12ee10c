"""Writers and collectors at the same time, in the orders that would hurt if the agreement had a gap.

ETags in these worlds follow from the content alone, so deleting on condition of an ETag protects nothing here.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from shardflow.store.care.gc import collect
from shardflow.store.tombstones import doomed_packs, release, tombstones
from store.care.world import DAY, World, content, reads_back


@pytest.fixture
def unused(world: World) -> World:
    """A removed file whose packs are old enough to be set aside."""
    world.put("went", content(2))
    world.store.rm("went")
    world.clock.pass_by(2 * DAY)
    return world


def collect_until_settled(world: World) -> None:
    for _ in range(5):
        collect(world.store)
        world.clock.pass_by(DAY)


def test_a_manifest_written_by_a_writer_that_looked_before_the_tombstone_keeps_its_packs(world: World) -> None:
    world.put("model", content(1))
    manifest = bytes(world.store.transport.read("tree/model"))
    packs = world.packs_of("model")
    world.store.rm("model")
    world.clock.pass_by(2 * DAY)
    collect(world.store)
    world.clock.pass_by(300)  # the writer looked at trash/ before that, and writes now

    world.store.transport.write("tree/model", manifest)
    world.clock.pass_by(DAY)
    report = collect(world.store)

    assert report.deleted.packs == 0
    assert packs <= world.packs()
    collect_until_settled(world)
    assert doomed_packs(world.store.transport) == set()
    reads_back(world, {"model": content(1)})


def test_a_writer_of_the_same_content_between_the_phases_loses_nothing(unused: World) -> None:
    collect(unused.store)
    unused.put("again", content(2))
    collect_until_settled(unused)
    reads_back(unused, {"again": content(2)})
    assert unused.packs() == unused.packs_of("again")


def test_a_writer_of_the_same_content_right_after_the_deletion_loses_nothing(unused: World) -> None:
    collect(unused.store)
    unused.clock.pass_by(DAY)
    collect(unused.store)
    unused.put("again", content(2))
    collect_until_settled(unused)
    reads_back(unused, {"again": content(2)})


@pytest.mark.parametrize("change", [1, 2, 3])
@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_writer_of_the_same_content_within_a_collection_loses_nothing(unused: World, phase: int, change: int) -> None:
    for _ in range(phase - 1):
        collect(unused.store)
        unused.clock.pass_by(DAY)
    changes = 0

    def writer(verb: str, key: str) -> None:
        nonlocal changes
        changes += 1
        if changes == change:
            unused.put("again", content(2))

    collect(unused.process(before=writer))
    if changes < change:
        unused.put("again", content(2))
    reads_back(unused, {"again": content(2)})
    collect_until_settled(unused)
    reads_back(unused, {"again": content(2)})


@pytest.mark.parametrize("change", range(1, 9))
@pytest.mark.parametrize("phase", [1, 2])
def test_a_collection_within_a_put_of_the_same_content_loses_nothing(unused: World, phase: int, change: int) -> None:
    for _ in range(phase - 1):
        collect(unused.store)
        unused.clock.pass_by(DAY)
    changes = 0

    def collector(verb: str, key: str) -> None:
        nonlocal changes
        changes += 1
        if changes == change:
            collect(unused.store)

    unused.process(before=collector).put(io.BytesIO(content(2)), "again")
    reads_back(unused, {"again": content(2)})
    collect_until_settled(unused)
    reads_back(unused, {"again": content(2)})


@pytest.mark.parametrize("change", [1, 2, 3])
@pytest.mark.parametrize("phase", [1, 2, 3])
def test_two_collections_at_once_settle_what_one_would(unused: World, phase: int, change: int) -> None:
    unused.put("stays", content(1))
    for _ in range(phase - 1):
        collect(unused.store)
        unused.clock.pass_by(DAY)
    changes = 0

    def other(verb: str, key: str) -> None:
        nonlocal changes
        changes += 1
        if changes == change:
            collect(unused.store)

    collect(unused.process(before=other))
    reads_back(unused, {"stays": content(1)})
    collect_until_settled(unused)
    assert unused.packs() == unused.packs_of("stays")
    assert unused.keys("trash/") == []
    reads_back(unused, {"stays": content(1)})


def test_a_collector_that_was_held_up_cannot_delete_what_a_writer_sent_again(unused: World) -> None:
    """Another collector deleted the pack meanwhile, and a writer sent the same bytes under the same name."""
    collect(unused.store)
    unused.clock.pass_by(DAY)
    held_up = False

    def meanwhile(verb: str, key: str) -> None:
        nonlocal held_up
        if verb == "delete" and key.startswith("packs/") and not held_up:
            held_up = True
            collect(unused.store)
            unused.put("again", content(2))

    collect(unused.process(before=meanwhile))

    assert held_up
    reads_back(unused, {"again": content(2)})


def test_a_collector_that_was_held_up_cannot_delete_what_another_found_in_use(unused: World) -> None:
    """The other one saw a manifest that is gone again, released the packs, and a writer came to use them."""
    collect(unused.store)
    unused.clock.pass_by(DAY)
    held_up = False

    def meanwhile(verb: str, key: str) -> None:
        nonlocal held_up
        if verb == "delete" and key.startswith("packs/") and not held_up:
            held_up = True
            for found in tombstones(unused.store.transport):
                release(unused.store.transport, found)
            unused.put("again", content(2))

    collect(unused.process(before=meanwhile))

    assert held_up
    reads_back(unused, {"again": content(2)})


def test_a_pack_deleted_while_a_writer_copies_out_of_it_is_sent_anew(unused: World, tmp_path: Path) -> None:
    """The writer saw it in the tombstone; before it could copy, the collection that was due came by."""
    (tmp_path / "again").write_bytes(content(2))
    collect(unused.store)
    unused.clock.pass_by(DAY)
    writer = unused.process()
    honest, begun = writer.transport.read_range, False

    def read_range(key: str, start: int, length: int) -> memoryview:
        nonlocal begun
        if not begun:
            begun = True
            collect(unused.store)
        return honest(key, start, length)

    writer.transport.read_range = read_range  # type: ignore[method-assign]
    writer.put(tmp_path / "again", "again")

    assert begun
    reads_back(unused, {"again": content(2)})
