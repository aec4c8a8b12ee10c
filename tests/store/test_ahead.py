"""Items are made while the last one is used, in order, and nothing runs on behind a caller's back."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest

from shardflow.store.ahead import made_ahead


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("most", [1, 2, 50])
def test_all_items_come_in_their_order(thread: ThreadPoolExecutor, most: int) -> None:
    assert list(made_ahead(iter(range(20)), thread, most)) == list(range(20))
    assert list(made_ahead(iter(()), thread, most)) == []


def test_the_next_ones_are_made_in_the_other_thread_while_one_is_used(thread: ThreadPoolExecutor) -> None:
    made, by, two = [], set(), threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            by.add(threading.current_thread())
            made.append(number)
            if number == 2:
                two.set()
            yield number

    with closing(made_ahead(items(), thread, 2)) as ahead:
        assert next(ahead) == 0
        assert two.wait(10)
        assert made == [0, 1, 2], "no more than were asked for"
    assert threading.current_thread() not in by


def test_what_fails_in_it_fails_when_its_turn_comes(thread: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    ahead = made_ahead(items(), thread, 3)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


def test_who_is_interrupted_while_waiting_for_an_item_leaves_nothing_running(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), []

    def items() -> Iterator[int]:
        begun.set()
        time.sleep(0.2)
        ended.append(True)
        yield 1

    def interrupted(_: Future[int]) -> int:
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt), closing(made_ahead(items(), thread, 1)) as ahead:
        next(ahead)
    assert ended == [True]


def test_once_it_is_closed_nothing_is_made_any_more(thread: ThreadPoolExecutor) -> None:
    """Whoever closes it closes the file next that the items are read from."""
    begun, may_end, ended = threading.Event(), threading.Event(), []

    def items() -> Generator[int, None, None]:
        yield 1
        begun.set()
        may_end.wait(10)
        ended.append(True)
        yield 2

    ahead = made_ahead(items(), thread, 2)
    assert next(ahead) == 1
    begun.wait(10)
    threading.Timer(0.1, may_end.set).start()
    ahead.close()
    assert ended == [True]
