"""Requests of several threads done together: each gets its own outcome, and none waits for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from shardflow.dvc.gathering import Gathered, Turn


def test_what_comes_while_one_works_is_done_together() -> None:
    batches: list[list[int]] = []
    first_begun, others_wait = Event(), Event()

    def work(turns: list[Turn[int]]) -> None:
        batches.append(sorted(turn.request for turn in turns))
        first_begun.set()
        assert others_wait.wait(10)

    gathered = Gathered(work)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gathered.do, 0)
        assert first_begun.wait(10)
        others = [pool.submit(gathered.do, number) for number in range(1, 8)]
        while len(gathered._waiting) < 7:
            pass
        others_wait.set()
        for each in (first, *others):
            each.result(10)
    assert batches == [[0], [1, 2, 3, 4, 5, 6, 7]]


def test_many_threads_are_all_served() -> None:
    done: list[int] = []
    gathered: Gathered[int] = Gathered(lambda turns: done.extend(turn.request for turn in turns))
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(gathered.do, range(5000)))
    assert sorted(done) == list(range(5000))


def test_a_failure_of_one_request_is_its_own() -> None:
    def work(turns: list[Turn[int]]) -> None:
        for turn in turns:
            turn.error = ValueError(f"no {turn.request}") if turn.request % 2 else None

    gathered = Gathered(work)
    gathered.do(2)
    with pytest.raises(ValueError, match="no 3"):
        gathered.do(3)
    gathered.do(4)


def test_after_work_that_failed_as_a_whole_others_are_served() -> None:
    def work(turns: list[Turn[str]]) -> None:
        if any(turn.request == "bad" for turn in turns):
            raise ValueError("bad")

    gathered = Gathered(work)
    with pytest.raises(ValueError, match="bad"):
        gathered.do("bad")
    gathered.do("good")
