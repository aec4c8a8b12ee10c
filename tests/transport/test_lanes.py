"""As many large bodies travel at once as help: a few, many over slow connections, one on a crowded link."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from shardflow.transport import lanes as module
from shardflow.transport.lanes import Lanes

FEW, MANY = 3, 5
QUICK = 1 << 40  # bytes, of which nobody can tell that they are slow


def meet(lanes: Lanes, count: int, patience: float) -> bool:
    """Whether so many are under way at the same moment."""
    meeting, met = threading.Barrier(count), []

    def travel() -> None:
        with lanes.lane(QUICK), suppress(threading.BrokenBarrierError):
            meeting.wait(patience)
            met.append(True)

    travellers = [threading.Thread(target=travel) for _ in range(count)]
    for each in travellers:
        each.start()
    for each in travellers:
        each.join()
    return len(met) == count


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(FEW, MANY)


def test_a_few_travel_at_once_where_nothing_is_known(lanes: Lanes) -> None:
    assert meet(lanes, FEW, patience=30)
    assert not meet(lanes, FEW + 1, patience=0.2)


def test_quick_connections_need_no_more(lanes: Lanes) -> None:
    with lanes.lane(QUICK):
        pass
    assert not meet(lanes, FEW + 1, patience=0.2)


def test_slow_connections_are_many(lanes: Lanes) -> None:
    with lanes.lane(1):
        pass
    assert meet(lanes, MANY, patience=30)
    assert not meet(lanes, MANY + 1, patience=0.2)


def test_what_fails_soon_tells_nothing(lanes: Lanes) -> None:
    with pytest.raises(OSError, match="reset"), lanes.lane(1):
        raise OSError("connection reset")
    assert meet(lanes, FEW, patience=30)
    assert not meet(lanes, FEW + 1, patience=0.2)


@pytest.fixture
def crowded(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> Lanes:
    """Something was not through after a long time."""
    monkeypatch.setattr(module, "CROWDED", 0.0)
    with pytest.raises(TimeoutError), lanes.lane(1):
        raise TimeoutError
    monkeypatch.undo()
    return lanes


def test_on_a_crowded_link_each_waits_for_the_one_before(crowded: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOMY", 0.0)
    assert not meet(crowded, 2, patience=0.2)
    assert not meet(crowded, 2, patience=0.2)


def test_each_that_is_quick_makes_room_for_one_more(crowded: Lanes) -> None:
    with crowded.lane(QUICK):
        pass
    assert meet(crowded, 2, patience=30)
    assert not meet(crowded, FEW + 1, patience=0.2)
    assert meet(crowded, FEW, patience=30)
