"""The retry policy by itself: how often, how long, and what comes out at the end."""

from __future__ import annotations

import threading
import time

import pytest

from shardflow.errors import Cancelled
from shardflow.transport import AccessDenied, Cancellation, RetryPolicy, Truncated, Unreachable
from shardflow.transport.errors import Interrupted, TransportError

QUICK = RetryPolicy(attempts=5, base_delay=0.001, max_delay=0.002)


class Flaky:
    """Fails a number of times, then succeeds."""

    def __init__(self, failures: int, error: TransportError | None = None) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error or Interrupted("cannot read some in there: it broke")
        return "done"


def test_succeeds_after_failures_that_pass() -> None:
    flaky, noted = Flaky(3), []
    assert QUICK.run(flaky, Cancellation(), noted.append) == "done"
    assert flaky.calls == 4
    assert [str(error) for error in noted] == ["cannot read some in there: it broke"] * 3


def test_a_final_failure_ends_it_at_once() -> None:
    flaky = Flaky(1, AccessDenied("no"))
    with pytest.raises(AccessDenied):
        QUICK.run(flaky, Cancellation())
    assert flaky.calls == 1


def test_giving_up_says_how_often_how_long_and_why() -> None:
    with pytest.raises(Unreachable, match=r"cannot read some in there: it broke \(tried 5 times in 0\.\d s\); check"):
        QUICK.run(Flaky(99), Cancellation())


def test_what_stays_truncated_is_told_as_truncated() -> None:
    error = Truncated("some broke off", wanted=10, got=5, transient=True)
    with pytest.raises(Truncated, match=r"some broke off \(tried 5 times"):
        QUICK.run(Flaky(99, error), Cancellation())


def test_no_attempt_begins_after_the_deadline() -> None:
    policy = RetryPolicy(attempts=1000, deadline=0.3, base_delay=0.05, max_delay=0.05)
    started = time.monotonic()
    with pytest.raises(Unreachable):
        policy.run(Flaky(9999), Cancellation())
    assert time.monotonic() - started < 10  # all attempts would take 25 seconds


def test_waits_grow_and_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    cancel = Cancellation()
    monkeypatch.setattr(Cancellation, "sleep", lambda _, seconds: waits.append(seconds))
    policy = RetryPolicy(attempts=9, base_delay=1.0, max_delay=20.0, deadline=1e9)
    for _ in range(200):
        with pytest.raises(Unreachable):
            policy.run(Flaky(99), cancel)
    for place in range(8):
        drawn = waits[place::8]
        bound = min(20.0, 2.0**place)
        assert all(0 <= wait <= bound for wait in drawn)
        assert min(drawn) < 0.2 * bound
        assert max(drawn) > 0.8 * bound


def test_cancelling_ends_the_wait_between_attempts() -> None:
    cancel = Cancellation()
    flaky = Flaky(99)
    threading.Timer(0.1, cancel.cancel, ["Ctrl-C"]).start()
    started = time.monotonic()
    with pytest.raises(Cancelled, match="Ctrl-C"):
        RetryPolicy(base_delay=1000, max_delay=1000, deadline=1e9).run(flaky, cancel)
    assert time.monotonic() - started < 30
    assert flaky.calls == 1


def test_nothing_is_tried_once_cancelled() -> None:
    cancel = Cancellation()
    cancel.cancel()
    flaky = Flaky(0)
    with pytest.raises(Cancelled):
        QUICK.run(flaky, cancel)
    assert flaky.calls == 0
