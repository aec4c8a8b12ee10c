"""Garbage collection frees what nothing needs, a grace period late, and never anything else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shardflow.errors import Cancelled
from shardflow.store.care import gc
from shardflow.store.care.gc import Amount, collect
from shardflow.store.care.progress import CareProgress
from shardflow.store.errors import BadPath, FormatUnknown, ManifestDamaged
from shardflow.store.store import Store
from shardflow.store.tombstones import doomed_packs
from shardflow.transport import Cancellation
from store.care.world import DAY, HOUR, World, content, reads_back
from store.samples import manifest_from_the_future


@pytest.fixture
def half_used(world: World) -> World:
    """One file that stays, and one that was removed a good while ago."""
    world.put("stays", content(1))
    world.put("went", content(2))
    world.store.rm("went")
    world.clock.pass_by(2 * DAY)
    return world


def unused(world: World) -> set[bytes]:
    return world.packs() - world.packs_of("stays")


def test_unused_packs_are_set_aside_first_and_deleted_a_grace_period_later(half_used: World) -> None:
    doomed = unused(half_used)

    first = collect(half_used.store)
    assert first.set_aside.packs == len(doomed)
    assert first.deleted == Amount()
    assert doomed_packs(half_used.store.transport) == doomed
    assert first.next_at == half_used.clock.now + DAY

    half_used.clock.pass_by(DAY)
    second = collect(half_used.store)
    assert second.deleted == first.set_aside
    assert half_used.packs() == half_used.packs_of("stays")
    reads_back(half_used, {"stays": content(1)})


def test_packs_set_aside_wait_for_the_whole_grace_period(half_used: World) -> None:
    aside = collect(half_used.store).set_aside
    half_used.clock.pass_by(DAY - 1)

    report = collect(half_used.store)

    assert (report.waiting, report.deleted, report.set_aside) == (aside, Amount(), Amount())
    assert report.next_at == half_used.clock.now + 1


def test_settled_tombstones_go_another_grace_period_later(half_used: World) -> None:
    collect(half_used.store)
    half_used.clock.pass_by(DAY)
    collect(half_used.store)
    assert len(half_used.keys("trash/")) == 1

    half_used.clock.pass_by(DAY)
    report = collect(half_used.store)

    assert half_used.keys("trash/") == []
    assert report.next_at is None
    assert report.total == report.live


def test_young_packs_are_left_alone(world: World) -> None:
    world.put("model", content(1))
    world.store.rm("model")
    world.clock.pass_by(DAY - HOUR)

    report = collect(world.store)

    assert report.fresh == report.total
    assert world.keys("trash/") == []
    assert report.next_at == world.clock.now + HOUR


def test_the_amounts_add_up_to_the_total(half_used: World) -> None:
    half_used.put("young", content(3))
    half_used.store.rm("young")
    report = collect(half_used.store)
    parts = [report.live, report.fresh, report.set_aside, report.waiting, report.deleted, report.kept_changed]
    assert sum(part.packs for part in parts) == report.total.packs
    assert sum(part.bytes for part in parts) == report.total.bytes
    assert report.live.packs
    assert report.fresh.packs
    assert report.set_aside.packs


def test_with_no_grace_two_collections_in_a_row_free_everything(half_used: World) -> None:
    collect(half_used.store, grace=0)
    report = collect(half_used.store, grace=0)
    assert report.deleted.packs
    assert any("the grace period was 0 s" in note for note in report.notes)
    reads_back(half_used, {"stays": content(1)})


@pytest.mark.parametrize("phases_before", [0, 1, 2])
def test_a_dry_run_tells_the_same_and_changes_nothing(half_used: World, phases_before: int) -> None:
    for _ in range(phases_before):
        collect(half_used.store)
        half_used.clock.pass_by(DAY)
    before = half_used.snapshot()

    told = collect(half_used.store, dry_run=True)

    assert half_used.snapshot() == before
    done = collect(half_used.store)
    assert replace(told, dry_run=False) == done


@pytest.mark.parametrize(
    ("damage", "error", "name"),
    [
        (b"garbage", ManifestDamaged, "stays"),
        (manifest_from_the_future(), FormatUnknown, "stays"),
        (b"", ManifestDamaged, "stays"),
    ],
    ids=["garbage", "from the future", "empty"],
)
def test_nothing_is_deleted_while_a_manifest_cannot_be_read(
    half_used: World, damage: bytes, error: type[Exception], name: str
) -> None:
    collect(half_used.store)
    half_used.clock.pass_by(DAY)
    half_used.store.transport.write("tree/stays", damage)
    before = half_used.snapshot()

    with pytest.raises(error, match=f"nothing was deleted, because .*{name}"):
        collect(half_used.store)

    assert half_used.snapshot() == before


def test_nothing_is_deleted_while_a_foreign_object_lies_among_the_manifests(half_used: World) -> None:
    half_used.store.transport.write("tree/%zz", b"whatever")
    with pytest.raises(BadPath, match="nothing was deleted, because key 'tree/%zz'"):
        collect(half_used.store)


def test_a_store_that_needs_an_unknown_feature_for_deleting_is_refused(half_used: World) -> None:
    half_used.store.config = replace_requires(half_used.store, {"delete": ["leases"]})
    with pytest.raises(FormatUnknown, match="leases"):
        collect(half_used.store)


def replace_requires(store: Store, requires: dict[str, list[str]]) -> object:
    import msgspec

    return msgspec.structs.replace(store.config, requires=requires)


def test_a_pack_written_anew_since_it_was_set_aside_is_kept(half_used: World) -> None:
    doomed = unused(half_used)
    collect(half_used.store)
    half_used.clock.pass_by(DAY)
    for pack in doomed:
        half_used.change(f"packs/{pack.hex()[:2]}/{pack.hex()}", lambda data: data.append(0))

    report = collect(half_used.store)

    assert report.kept_changed.packs == len(doomed)
    assert report.deleted == Amount()
    assert doomed <= half_used.packs()


def test_collections_that_take_too_long_to_see_what_is_used_delete_nothing(
    half_used: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was marked long ago may no longer be true."""
    aside = collect(half_used.store).set_aside
    half_used.clock.pass_by(DAY)
    ticks = iter([0.0])
    monkeypatch.setattr(gc, "seconds", lambda: next(ticks, DAY))

    report = collect(half_used.store)

    assert (report.deleted, report.waiting) == (Amount(), aside)
    assert any("use a longer grace period" in note for note in report.notes)
    monkeypatch.undo()
    assert collect(half_used.store).deleted == aside


def test_providers_that_cannot_delete_on_condition_are_told_of(
    half_used: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(half_used.store)
    half_used.clock.pass_by(DAY)
    monkeypatch.setattr(type(half_used.store.transport), "conditional_deletes", False)
    report = collect(half_used.store)
    assert report.deleted.packs
    assert any("does not delete on condition" in note for note in report.notes)


def test_a_collection_tells_how_far_it_is_and_can_be_stopped(half_used: World) -> None:
    progress, cancel = CareProgress(), Cancellation()
    collect(half_used.store, progress=progress)
    assert progress.phase
    cancel.cancel("by the test")
    with pytest.raises(Cancelled, match="by the test"):
        collect(half_used.store, cancel=cancel)


def test_the_report_is_plain_data(half_used: World) -> None:
    report = collect(half_used.store).as_dict()
    assert report["set_aside"]["packs"] > 0
    assert report["dry_run"] is False


def test_unfinished_files_of_killed_writers_are_removed(half_used: World) -> None:
    if half_used.store.url.backend != "file":
        assert collect(half_used.store).leftovers_removed == 0
        return
    incoming = Path(half_used.store.url.path) / ".incoming"
    for name, age in (("1-old.part", 3 * DAY), ("2-new.part", 60.0)):
        (incoming / name).write_bytes(b"half a pack")
        when = half_used.clock.now - age
        os.utime(incoming / name, (when, when))

    assert collect(half_used.store, dry_run=True).leftovers_removed == 1
    assert collect(half_used.store).leftovers_removed == 1
    assert [path.name for path in incoming.glob("*.part")] == ["2-new.part"]


def test_old_probes_and_packs_kept_for_a_look_are_removed_in_the_end(world: World) -> None:
    for name in ("clock-0123", "probe-4567", f"damaged/{'0' * 64}", "verified"):
        world.store.transport.write(f"care/{name}", b"x")
    world.clock.pass_by(2 * HOUR)
    assert collect(world.store).leftovers_removed == 2
    assert len(world.keys("care/")) == 2
    world.clock.pass_by(31 * DAY)
    assert collect(world.store).leftovers_removed == 1
    assert world.keys("care/") == ["care/verified"]
