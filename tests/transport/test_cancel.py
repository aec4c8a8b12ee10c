"""Cancellation: set once, seen by everyone who looks, safe in a signal handler."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from shardflow.errors import Cancelled
from shardflow.transport import Cancellation


def test_nothing_happens_until_someone_cancels() -> None:
    cancel = Cancellation()
    cancel.check()
    cancel.sleep(0.001)
    assert not cancel.cancelled


def test_the_first_reason_is_told() -> None:
    cancel = Cancellation()
    cancel.cancel("the disk is full")
    cancel.cancel("later")
    with pytest.raises(Cancelled, match="stopped: the disk is full"):
        cancel.check()


def test_a_sleeper_wakes_soon() -> None:
    cancel = Cancellation()
    threading.Timer(0.1, cancel.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        cancel.sleep(30)
    assert time.monotonic() - started < 20


def test_a_signal_handler_may_cancel_the_thread_it_interrupts() -> None:
    cancel = Cancellation()
    before = signal.signal(signal.SIGALRM, lambda *_: cancel.cancel("signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Cancelled, match="signal"):
            cancel.sleep(30)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_child_is_cancelled_with_its_parent_but_not_the_parent_with_the_child() -> None:
    parent = Cancellation()
    one, other = Cancellation(parent), Cancellation(parent)
    one.cancel()
    assert one.cancelled
    assert not parent.cancelled
    assert not other.cancelled
    parent.cancel("all")
    assert other.cancelled
    with pytest.raises(Cancelled, match="all"):
        other.check()
