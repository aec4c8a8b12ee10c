"""Large objects go in parts until the link has shown that it is quick."""

from __future__ import annotations

import pytest

from shardflow.transport import pace as module
from shardflow.transport.pace import QUICK, WORTH_A_TRIAL, Pace


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    """Each sending takes one second."""
    ticks = iter(range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))
    return Pace()


def sent(pace: Pace, size: float) -> bool:
    """Send an object as the pace says; whether the next one is to go in parts."""
    with pace.measured(int(size), in_parts=pace.wants_parts):
        pass
    return pace.wants_parts


def test_an_unknown_link_is_taken_for_slow(pace: Pace) -> None:
    assert pace.wants_parts


@pytest.mark.parametrize(("size", "wants_parts"), [(WORTH_A_TRIAL - 1, True), (WORTH_A_TRIAL, False)])
def test_quick_parts_are_worth_a_trial_in_one_piece(pace: Pace, size: float, wants_parts: bool) -> None:
    assert sent(pace, size) is wants_parts


def test_a_trial_that_fails_is_the_last(pace: Pace) -> None:
    assert not sent(pace, WORTH_A_TRIAL)
    assert sent(pace, QUICK - 1)
    assert sent(pace, 10 * WORTH_A_TRIAL)


def test_a_quick_link_keeps_its_objects_whole(pace: Pace) -> None:
    assert [sent(pace, WORTH_A_TRIAL) for _ in range(3)] == [False] * 3


def test_a_failure_counts_as_slow(pace: Pace) -> None:
    sent(pace, WORTH_A_TRIAL)
    with pytest.raises(OSError, match="reset"), pace.measured(1 << 30, in_parts=False):
        raise OSError("connection reset")
    assert pace.wants_parts
