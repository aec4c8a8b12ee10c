"""Reading the data goes on where the last check stopped, and comes round to every pack."""

from __future__ import annotations

import math

import pytest

from faults.crashing import Crash
from shardflow.store.care import verified
from shardflow.store.care.chunks import BasePlaces
from shardflow.store.care.fsck import check
from shardflow.store.care.packs import listed_packs
from shardflow.store.care.reading import read_packs
from shardflow.store.care.timing import StoreClock
from shardflow.store.care.verified import VERIFIED_KEY, Verified
from store.care.world import DAY, World, content


@pytest.fixture
def filled(world: World) -> World:
    """Ten packs of different ages."""
    for seed in range(10):
        world.put(f"{seed}", content(seed, 50_000))
        world.clock.pass_by(DAY)
    return world


def order(world: World) -> list[bytes]:
    records = Verified(world.store.transport, StoreClock(world.store.transport))
    return records.in_order(listed_packs(world.store.transport).values())


def pack_of(world: World, path: str) -> bytes:
    (pack,) = world.packs_of(path)
    return pack


def test_the_oldest_packs_are_read_first_and_then_those_verified_longest_ago(filled: World) -> None:
    assert order(filled) == [pack_of(filled, f"{seed}") for seed in range(10)]
    check(filled.store, sample=0.3)
    assert order(filled) == [pack_of(filled, f"{seed}") for seed in (3, 4, 5, 6, 7, 8, 9)] + order(filled)[-3:]
    assert set(order(filled)[-3:]) == {pack_of(filled, f"{seed}") for seed in range(3)}


def test_samples_come_round_to_every_pack(filled: World) -> None:
    left = []
    for _ in range(4):
        report = check(filled.store, sample=0.25)
        assert report.packs_read == 3
        left.append(report.never_read)
        filled.clock.pass_by(60)
    assert left == [7, 4, 1, 0]


def test_a_check_that_runs_out_of_time_goes_on_the_next_time(filled: World) -> None:
    runs = 0
    while check(filled.store).never_read:
        report = check(filled.store, read_data=True, max_seconds=0)
        assert report.packs_read + report.packs_left == 10
        assert report.packs_read >= 1
        runs += 1
        filled.clock.pass_by(60)
    assert runs == 10


def test_the_report_names_the_pack_that_waits_longest(filled: World) -> None:
    oldest = check(filled.store).oldest_unverified
    assert oldest is not None
    assert oldest.pack == pack_of(filled, "0").hex()
    assert oldest.seconds == pytest.approx(10 * DAY, abs=60)
    assert not oldest.ever

    check(filled.store, read_data=True)
    filled.clock.pass_by(3 * DAY)
    again = check(filled.store).oldest_unverified
    assert again is not None
    assert again.ever
    assert again.seconds == pytest.approx(3 * DAY, abs=60)


def test_a_killed_check_has_saved_what_it_read_a_minute_before(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "SAVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(verified, "SAVING_SHARE", math.inf)
    with pytest.raises(Crash):
        check(filled.process(dies_at=5), read_data=True)  # four records were saved
    assert check(filled.store).never_read <= 6


def test_two_checks_at_once_merge_their_records(filled: World) -> None:
    transport, packs = filled.store.transport, listed_packs(filled.store.transport)
    one, two = order(filled)[:2]
    first, second = (Verified(transport, StoreClock(transport)) for _ in range(2))
    first.note(one, packs)
    second.note(two, packs)
    assert first.save(packs)
    assert second.save(packs)
    merged = Verified(transport, StoreClock(transport))
    assert merged.when(one) is not None
    assert merged.when(two) is not None


def test_records_of_packs_that_are_gone_are_dropped(filled: World) -> None:
    check(filled.store, read_data=True)
    gone = pack_of(filled, "0")
    filled.store.rm("0")
    filled.store.transport.delete(f"packs/{gone.hex()[:2]}/{gone.hex()}")
    check(filled.store, read_data=True)
    assert Verified(filled.store.transport, StoreClock(filled.store.transport)).when(gone) is None


@pytest.mark.parametrize("junk", [b"", b"garbage", b"\x28\xb5\x2f\xfd" + bytes(30)])
def test_records_that_do_not_parse_only_cost_what_they_said(filled: World, junk: bytes) -> None:
    check(filled.store, read_data=True)
    filled.store.transport.write(VERIFIED_KEY, junk)
    assert check(filled.store).never_read == 10
    assert check(filled.store, read_data=True).ok
    assert check(filled.store).never_read == 0


def test_damaged_packs_are_never_recorded_as_whole(filled: World) -> None:
    pack = pack_of(filled, "4")

    def flip(data: bytearray) -> None:
        data[1000] ^= 1

    filled.change(f"packs/{pack.hex()[:2]}/{pack.hex()}", flip)
    for _ in range(2):
        report = check(filled.store, read_data=True)
        assert not report.ok
        assert report.never_read == 1


def test_a_pack_altered_only_on_its_way_here_is_not_called_damaged(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = filled.store.transport
    honest, reads = transport.read, 0

    def read(key: str) -> memoryview:
        nonlocal reads
        reads += 1
        data = bytearray(honest(key))
        if reads == 1:
            data[500] ^= 1
        return memoryview(data)

    monkeypatch.setattr(transport, "read", read)
    infos = list(listed_packs(transport).values())
    reads = 0
    found = list(read_packs(transport, infos[:1], filled.store.budget, BasePlaces(transport)))
    assert reads == 2
    assert found[0].wrong is None


def test_packs_deleted_since_they_were_listed_are_left_out(filled: World) -> None:
    infos = list(listed_packs(filled.store.transport).values())
    filled.store.transport.delete(infos[0].key)
    found = list(read_packs(filled.store.transport, infos, filled.store.budget, BasePlaces(filled.store.transport)))
    assert len(found) == len(infos) - 1
