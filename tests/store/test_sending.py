"""Packs are sent in the background, in order, within the budget; none that is there is sent again."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shardflow.store import sending
from shardflow.store.chunks import PlainChunks
from shardflow.store.fetch import ranges
from shardflow.store.pack import check_whole, pack_key
from shardflow.store.sending import MANY, MAX_PACKS_IN_MEMORY, PACKS_AT_ONCE
from shardflow.transport import AccessDenied
from store.samples import in_memory, named, noise
from store.sender_bench import PACK_BYTES, Bench, Gated

CHUNKS = [noise(900 + number, number) for number in range(45)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.sender.close()


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[Bench, Gated]]:
    transport = in_memory()
    transport.__class__ = Gated
    assert isinstance(transport, Gated)
    transport.gate = threading.Semaphore(0)
    bench = Bench(tmp_path, transport)
    yield bench, bench.sender._transport  # type: ignore[misc]
    transport.gate.release(100)
    bench.sender.close()


def test_every_chunk_arrives_where_the_catalog_says(bench: Bench) -> None:
    rows = array("I", [bench.add(data) for data in CHUNKS])
    bench.sender.drain()

    table, sequence = bench.catalog.table(rows)
    found = {
        table.id(row): bytes(data)
        for part in ranges(table, range(len(table)))
        for row, data in PlainChunks(bench.transport, table, "m").in_range(part)
    }
    assert [found[table.id(int(place))] for place in sequence] == CHUNKS


def test_packs_are_whole_named_by_content_and_near_their_target(bench: Bench) -> None:
    for data in CHUNKS:
        bench.add(data)
    bench.sender.drain()
    packs = bench.packs()
    assert bench.sender.packs_sent == len(packs) == len(bench.sender.own) == 5
    assert set(packs) == set(bench.catalog.packs)
    for pack, data in packs.items():
        check_whole(pack, data)
        assert len(data) <= PACK_BYTES


def test_the_same_chunks_make_the_same_packs(bench: Bench, tmp_path: Path) -> None:
    """A run that comes after a crash without its journal builds packs that are there already."""
    again = Bench(tmp_path / "other", bench.transport)
    for which in (bench, again):
        for data in CHUNKS:
            which.add(data)
        which.sender.drain()
        which.sender.close()
    assert (bench.sender.packs_sent, again.sender.packs_sent) == (5, 0)
    assert again.totals.bytes_sent == 0
    assert bench.catalog.packs == again.catalog.packs
    assert len(dict(again.journal.unfinished())) == 5


def sizes_of_packs(bench: Bench) -> list[int]:
    """In the order in which they were filled."""
    bench.sender.drain()
    packs = bench.packs()
    return [len(packs[pack]) for pack in bench.catalog.packs]


def test_of_many_packs_the_first_are_smaller_so_that_sending_begins_early(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_PACKS", (PACK_BYTES // 4, PACK_BYTES // 2, PACK_BYTES, 2 * PACK_BYTES))
    bench.sender.expect(MANY * PACK_BYTES)
    chunks = [noise(400, seed) for seed in range(80)]
    rows = [bench.add(data) for data in chunks]
    first, second, *others, _ = sizes_of_packs(bench)
    assert PACK_BYTES // 8 < first <= PACK_BYTES // 4 < second <= PACK_BYTES // 2
    assert len(others) >= 2
    assert all(size > PACK_BYTES * 3 // 4 for size in others)
    assert [bench.catalog.name(row) for row in rows] == [named(data) for data in chunks]


@pytest.mark.parametrize("expected", [0, MANY * PACK_BYTES - 1])
def test_of_few_packs_none_is_smaller_than_need_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, expected: int
) -> None:
    monkeypatch.setattr(sending, "FIRST_PACKS", (PACK_BYTES // 4, PACK_BYTES // 2))
    bench.sender.expect(expected)
    for seed in range(40):
        bench.add(noise(400, seed))
    assert all(size > PACK_BYTES * 3 // 4 for size in sizes_of_packs(bench)[:-1])


def test_once_sending_has_begun_no_pack_is_smaller_whatever_is_to_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FIRST_PACKS", (PACK_BYTES // 4, PACK_BYTES // 2))
    bench.add(noise(400, 1000))
    bench.sender.expect(MANY * PACK_BYTES)
    for seed in range(40):
        bench.add(noise(400, seed))
    assert all(size > PACK_BYTES * 3 // 4 for size in sizes_of_packs(bench)[:-1])


def test_a_pack_that_was_cut_short_is_sent_again(bench: Bench, tmp_path: Path) -> None:
    for data in CHUNKS:
        bench.add(data)
    bench.sender.drain()
    whole = bench.packs()
    cut = next(iter(whole))
    bench.transport.write(pack_key(cut), whole[cut][:100])
    again = Bench(tmp_path / "other", bench.transport)
    for data in CHUNKS:
        again.add(data)
    again.sender.drain()
    again.sender.close()
    assert again.sender.packs_sent == 1
    assert bench.packs() == whole


def test_a_pack_is_noted_when_it_has_arrived_and_not_before(gated: tuple[Bench, Gated]) -> None:
    bench, transport = gated
    bench.add(CHUNKS[0])
    bench.sender.flush()
    assert not dict(bench.journal.unfinished())
    transport.gate.release()
    bench.sender.drain()
    [(pack, entries)] = bench.journal.unfinished()
    assert [entry.chunk for entry in entries] == [named(CHUNKS[0])]
    assert pack in bench.packs()


def test_it_says_which_packs_have_arrived(gated: tuple[Bench, Gated]) -> None:
    bench, transport = gated
    assert bench.sender.sent_below() == 0, "nothing was begun, so nothing is missing"
    foreign = bench.catalog.number_of(named(b"another writer's pack"))
    for data in CHUNKS[:15]:
        bench.add(data)
    first, second = sorted(bench.sender.own)
    assert foreign < first
    assert bench.sender.sent_below() == first
    transport.gate.release()
    while bench.sender.sent_below() == first:
        pass
    assert bench.sender.sent_below() == second, "the second is still being filled"
    transport.gate.release()
    bench.sender.drain()
    assert bench.sender.sent_below() == second + 1


def test_a_failure_is_raised_where_the_next_chunk_is_added_or_at_the_latest_at_the_end(bench: Bench) -> None:
    bench.sender._transport.__class__ = Gated
    bench.sender._transport.failing = True  # type: ignore[attr-defined]
    with pytest.raises(AccessDenied, match="no; ask"):
        [bench.add(data) for data in CHUNKS * 3]
    bench.sender.close()
    assert bench.budget.out == 0


def test_memory_follows_the_budget(tmp_path: Path) -> None:
    chunks = [noise(len(CHUNKS[0]), seed) for seed in range(100, 100 + 3 * len(CHUNKS))]
    for budget, most in ((PACK_BYTES - 1, 1), (2 * PACK_BYTES, 3), (100 * PACK_BYTES, MAX_PACKS_IN_MEMORY)):
        transport = in_memory()
        transport.__class__ = Gated
        assert isinstance(transport, Gated)
        transport.gate = threading.Semaphore(0)
        bench = Bench(tmp_path / str(budget), transport, budget)
        filling = threading.Thread(target=lambda bench=bench: [bench.add(data) for data in chunks])
        filling.start()
        filling.join(0.1)
        assert filling.is_alive(), "no more memory: it waits for the first pack to arrive"
        assert len(bench.sender.own) <= most
        assert bench.budget.out <= (most - 1) * PACK_BYTES
        transport.gate.release(100)
        filling.join(10)
        bench.sender.drain()
        assert bench.budget.peak <= budget
        bench.sender.close()
        assert bench.budget.out == 0
        assert len(bench.packs()) > MAX_PACKS_IN_MEMORY


def sent(bench: Bench, transport: Gated, count: int) -> None:
    for seed in range(1000, 1000 + count):
        transport.gate.release()
        bench.add(noise(PACK_BYTES * 2 // 3, seed))
        bench.sender.drain()


def filled(bench: Bench, count: int) -> threading.Thread:
    """A thread that adds as many chunks, of which a pack takes one."""
    adding = threading.Thread(target=lambda: [bench.add(noise(PACK_BYTES * 2 // 3, seed)) for seed in range(count)])
    adding.start()
    return adding


class Way(NamedTuple):
    """How a store is reached, and what a sender makes of it."""

    patience: float = 0.01
    slow: float = 20.0
    took: float | None = 0.03  # seconds, of a pack
    fastest: float = 1.0  # of the packs, times that rate


@pytest.mark.parametrize(
    ("way", "most"),
    [
        pytest.param(Way(took=None), PACKS_AT_ONCE, id="nobody knows the link"),
        pytest.param(Way(), MAX_PACKS_IN_MEMORY, id="far"),
        pytest.param(Way(patience=60.0), PACKS_AT_ONCE, id="near"),
        pytest.param(Way(took=0.003), PACKS_AT_ONCE, id="near, and it stalls"),
        pytest.param(Way(slow=0.0), PACKS_AT_ONCE, id="slow"),
        pytest.param(Way(fastest=3.0), PACKS_AT_ONCE, id="one alone went three times as fast"),
    ],
)
def test_more_than_a_few_packs_are_in_memory_only_where_none_arrives_for_a_while(
    gated: tuple[Bench, Gated], monkeypatch: pytest.MonkeyPatch, way: Way, most: int
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", way.patience)
    monkeypatch.setattr(sending, "SLOW", way.slow)
    bench, transport = gated
    if way.took:
        sent(bench, transport, 1)
        bench.sender._rate = PACK_BYTES / way.took
        bench.sender._best_rate = way.fastest * bench.sender._rate
    adding = filled(bench, 20)
    adding.join(0.5)
    assert adding.is_alive()
    assert bench.budget.out == (most - 1) * PACK_BYTES
    transport.gate.release(40)
    adding.join(10)
    bench.sender.drain()
    assert len(bench.packs()) == 20 + (way.took is not None)


def test_packs_that_are_there_already_tell_nothing_of_the_link(
    gated: tuple[Bench, Gated], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.01)
    bench, transport = gated
    transport.gate.release(3)
    before = Bench(tmp_path / "before", bench.transport)
    filled(before, 3).join(10)
    before.sender.drain()
    before.sender.close()
    adding = filled(bench, 20)
    adding.join(0.5)
    assert bench.budget.out == (PACKS_AT_ONCE - 1) * PACK_BYTES
    transport.gate.release(40)
    adding.join(10)
    bench.sender.drain()
    assert bench.sender.packs_sent == 17


def test_while_packs_arrive_their_memory_is_used_again(
    gated: tuple[Bench, Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 60.0)
    bench, transport = gated
    transport.gate.release(40)
    filled(bench, 20).join(10)
    bench.sender.drain()
    assert bench.budget.peak <= (PACKS_AT_ONCE - 1) * PACK_BYTES


def test_once_everything_has_arrived_there_is_memory_for_one_pack(
    gated: tuple[Bench, Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.01)
    bench, transport = gated
    for _ in range(2):
        adding = filled(bench, 6)
        transport.gate.release(6)
        adding.join(10)
        bench.sender.drain()
        assert bench.budget.peak > 0
        assert bench.budget.out == 0
        assert len(bench.sender._idle) == 1


def test_closing_drops_what_was_not_sent(bench: Bench) -> None:
    bench.add(CHUNKS[0])
    bench.sender.close()
    assert bench.packs() == {}


def test_a_chunk_coded_against_another_names_it_in_the_pack(bench: Bench) -> None:
    base = bench.add(CHUNKS[0])
    bench.sender.add(named(b"delta"), 5, 16, (b"delta",), (base,))
    bench.sender.drain()
    [(pack, data)] = bench.packs().items()
    assert [entry.bases for entry in check_whole(pack, data)] == [(), (named(CHUNKS[0]),)]
