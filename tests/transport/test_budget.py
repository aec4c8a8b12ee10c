"""The byte budget: never exceeded, fair, and free of deadlock."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shardflow.errors import Cancelled
from shardflow.transport import ByteBudget, Cancellation


def wait_until_queued(budget: ByteBudget, number: int) -> None:
    while len(budget._queue) < number:
        time.sleep(0.001)


def test_what_is_held_comes_back() -> None:
    budget = ByteBudget(10)
    with budget.hold(7):
        assert budget.out == 7
    assert budget.out == 0
    assert budget.peak == 7


def test_what_is_held_comes_back_after_an_error() -> None:
    budget = ByteBudget(10)
    with pytest.raises(ZeroDivisionError), budget.hold(7):
        _ = 1 / 0
    assert budget.out == 0


def test_a_request_waits_for_room() -> None:
    budget = ByteBudget(10)
    budget.acquire(8)
    waiting = threading.Thread(target=budget.acquire, args=[5])
    waiting.start()
    wait_until_queued(budget, 1)
    assert budget.out == 8
    budget.release(8)
    waiting.join()
    assert budget.out == 5


def test_more_than_the_total_is_granted_alone() -> None:
    budget = ByteBudget(10)
    budget.acquire(1)
    order: list[str] = []

    def take_all() -> None:
        with budget.hold(1000):
            order.append("large")

    large = threading.Thread(target=take_all)
    large.start()
    wait_until_queued(budget, 1)
    assert order == []
    budget.release(1)
    large.join()
    assert order == ["large"]


def test_small_requests_do_not_overtake_a_large_one() -> None:
    budget = ByteBudget(10)
    budget.acquire(6)
    order: list[int] = []
    threads = []
    for number, size in enumerate([10, 1, 1]):

        def take(number: int = number, size: int = size) -> None:
            with budget.hold(size):
                order.append(number)

        threads.append(threading.Thread(target=take))
        threads[-1].start()
        wait_until_queued(budget, number + 1)
    budget.release(6)
    for thread in threads:
        thread.join()
    assert order[0] == 0


def test_cancelling_withdraws_a_waiting_request_and_lets_the_next_in() -> None:
    budget = ByteBudget(10)
    budget.acquire(5)
    cancel = Cancellation()
    with ThreadPoolExecutor(2) as threads:
        large = threads.submit(budget.acquire, 9, cancel)
        wait_until_queued(budget, 1)
        small = threads.submit(budget.acquire, 2)
        wait_until_queued(budget, 2)
        cancel.cancel()
        with pytest.raises(Cancelled):
            large.result()
        small.result(timeout=30)
    assert budget.out == 7


def test_nothing_is_taken_or_returned_that_could_not_be() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        ByteBudget(0)
    budget = ByteBudget(10)
    with pytest.raises(ValueError, match="cannot take -1"):
        budget.acquire(-1)
    with pytest.raises(ValueError, match="cannot release 1 bytes: 0 are out"):
        budget.release(1)


def test_many_threads_stay_within_it_and_all_finish() -> None:
    budget = ByteBudget(100)
    sizes = random.Random(1).choices([1, 7, 30, 60, 100, 250], k=2000)
    over = []

    def work(size: int) -> None:
        with budget.hold(size):
            if budget.out > max(100, size):
                over.append(budget.out)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, sizes))
    assert budget.out == 0
    assert not over
    assert budget.peak == 250
