"""Tombstones say which packs no new manifest may name; one that cannot be read stops a writer and is named."""

from __future__ import annotations

import msgspec
import pytest

from shardflow.store.errors import ManifestDamaged
from shardflow.store.tombstones import (
    TRASH,
    Doomed,
    doomed_packs,
    release,
    remove_released,
    tombstones,
    write_tombstone,
)
from shardflow.transport import Transport
from store.samples import in_memory, named

ONE, TWO, THREE = (Doomed(named(b"%d" % number), 100 + number, etag) for number, etag in enumerate(("a", None, "c")))


@pytest.fixture
def place() -> Transport:
    return in_memory()


def test_what_was_set_aside_is_found(place: Transport) -> None:
    key = write_tombstone(place, [ONE, TWO])
    [found] = tombstones(place)
    assert (found.key, found.packs, found.released) == (key, (ONE, TWO), False)
    assert abs(found.written - place.clock()) < 60


def test_packs_of_all_tombstones_are_doomed(place: Transport) -> None:
    write_tombstone(place, [ONE, TWO])
    write_tombstone(place, [TWO, THREE])
    assert doomed_packs(place) == {ONE.pack, TWO.pack, THREE.pack}


def test_without_tombstones_nothing_is_doomed(place: Transport) -> None:
    assert doomed_packs(place) == set()


def test_writers_keep_away_from_released_packs_too(place: Transport) -> None:
    write_tombstone(place, [ONE])
    [found] = tombstones(place)
    release(place, found)
    [released] = tombstones(place)
    assert released.released
    assert released.packs == (ONE,)
    assert doomed_packs(place) == {ONE.pack}


def test_of_two_that_release_one_tombstone_both_succeed(place: Transport) -> None:
    write_tombstone(place, [ONE])
    [found] = tombstones(place)
    release(place, found)
    release(place, found)
    assert [tombstone.released for tombstone in tombstones(place)] == [True]


def test_one_that_changed_meanwhile_is_not_removed(place: Transport) -> None:
    write_tombstone(place, [ONE])
    [before] = tombstones(place)
    release(place, before)
    assert not remove_released(place, before)
    [after] = tombstones(place)
    assert remove_released(place, after)
    assert not list(tombstones(place))
    assert not remove_released(place, after)


def test_one_that_vanishes_while_they_are_read_is_passed_over(
    place: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [write_tombstone(place, [ONE]), write_tombstone(place, [TWO])]
    reading = tombstones(place)
    first = next(reading)
    place.delete(next(key for key in keys if key != first.key))
    assert list(reading) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        msgspec.msgpack.encode({"packs": [[b"name"]]}),
        msgspec.msgpack.encode({"packs": [["text", 1, None]]}),
        msgspec.msgpack.encode({"packs": [[b"name", 1, "etag"]]}).replace(b"etag", b"et\xffg"),
        b"\x91" * 100_000,
    ],
)
def test_one_that_cannot_be_read_is_named_and_nothing_is_taken_for_safe(place: Transport, data: bytes) -> None:
    place.write(f"{TRASH}strange", data)
    with pytest.raises(ManifestDamaged, match=r"the tombstone trash/strange is not valid .*; run"):
        doomed_packs(place)


def test_additions_of_later_versions_are_passed_over(place: Transport) -> None:
    place.write(f"{TRASH}later", msgspec.msgpack.encode({"packs": [[ONE.pack, 1, None, "why"]], "by": "gc 2"}))
    assert doomed_packs(place) == {ONE.pack}
