"""Hints that lead nowhere are swept up; those that lead somewhere stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.store.care.gc import collect
from shardflow.store.hints import read_hint
from store.care.world import HOUR, World, content


@pytest.fixture
def hinted(world: World, tmp_path: Path) -> World:
    """Two files large enough for hints."""
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).write_bytes(content(seed, 1_200_000))
        world.store.put(tmp_path / name, name)
    world.clock.pass_by(HOUR)
    return world


def hinted_paths(world: World) -> set[str]:
    return {hint.path for key in world.keys("hints/") if (hint := read_hint(world.store.transport, key))}


def test_hints_of_removed_files_are_removed(hinted: World) -> None:
    hinted.store.rm("one")
    told = collect(hinted.store, dry_run=True).hints_removed
    assert collect(hinted.store).hints_removed == told > 0
    assert hinted_paths(hinted) == {"two"}
    assert collect(hinted.store).hints_removed == 0


def test_hints_of_replaced_content_are_removed_and_those_of_the_new_stay(hinted: World, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(content(3, 1_300_000))
    hinted.store.put(tmp_path / "one", "one")
    hinted.clock.pass_by(HOUR)
    digest = hinted.store.manifest("one").digest
    assert collect(hinted.store).hints_removed > 0
    kept = [read_hint(hinted.store.transport, key) for key in hinted.keys("hints/")]
    assert {hint.digest for hint in kept if hint and hint.path == "one"} == {digest}


def test_hints_that_do_not_parse_are_removed(hinted: World) -> None:
    key = hinted.keys("hints/")[0]
    hinted.change(key, lambda data: data.clear())
    assert collect(hinted.store).hints_removed == 1
    assert key not in hinted.keys("hints/")


def test_a_hint_written_while_the_collection_runs_stays(hinted: World, tmp_path: Path) -> None:
    """Its manifest came too late to be seen among the others."""
    (tmp_path / "three").write_bytes(content(4, 1_200_000))
    begun = False

    def writer(verb: str, key: str) -> None:
        nonlocal begun
        if not begun:
            begun = True
            hinted.store.put(tmp_path / "three", "three")

    hinted.store.rm("one")
    hinted.clock.pass_by(30 * HOUR)
    collect(hinted.process(before=writer))

    assert begun
    assert hinted_paths(hinted) == {"two", "three"}
