"""Requests of several coroutines done together: each gets its own answer, and none waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence

import pytest

from shardflow.dvc.asking import Asking


def all_of(asking: Asking[int, int], requests: Sequence[int]) -> list[int | BaseException]:
    async def ask() -> list[int | BaseException]:
        return await asyncio.gather(*(asking.ask(request) for request in requests), return_exceptions=True)

    return asyncio.run(ask())


def test_what_is_asked_at_the_same_time_is_done_together() -> None:
    batches: list[list[int]] = []

    def work(requests: list[int]) -> list[int]:
        batches.append(requests)
        return [request * 2 for request in requests]

    assert all_of(Asking(work, 4), range(10)) == [number * 2 for number in range(10)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_it_can_be_asked_again_and_from_several_loops_at_once() -> None:
    asking: Asking[int, int] = Asking(lambda requests: [request + 1 for request in requests], 16)
    found: dict[int, list[int | BaseException]] = {}

    def ask_from(start: int) -> None:
        for _ in range(20):
            found[start] = all_of(asking, range(start, start + 50))

    threads = [threading.Thread(target=ask_from, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {start: list(range(start + 1, start + 51)) for start in (0, 1000, 2000)}


def test_a_failure_of_one_request_is_its_own() -> None:
    def work(requests: list[int]) -> list[int | Exception]:
        return [ValueError(f"no {request}") if request % 2 else request for request in requests]

    answers = all_of(Asking(work, 8), range(4))
    assert [str(answer) for answer in answers] == ["0", "no 1", "2", "no 3"]
    assert isinstance(answers[1], ValueError)


def test_after_work_that_failed_as_a_whole_others_are_served() -> None:
    def work(requests: list[int]) -> list[int]:
        if 7 in requests:
            raise ValueError("bad")
        return requests

    asking = Asking(work, 8)
    assert [str(answer) for answer in all_of(asking, [6, 7])] == ["bad", "bad"]
    assert all_of(asking, [1, 2]) == [1, 2]


class Held:
    """Work that is under way until it may go on."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def work(self, requests: list[int]) -> list[int]:
        self.begun.set()
        assert self.goes_on.wait(10)
        return requests


def test_who_asked_and_went_away_does_not_hold_up_the_others() -> None:
    held = Held()
    asking = Asking(held.work, 8)

    async def ask() -> int:
        gone, stays = asyncio.create_task(asking.ask(1)), asyncio.create_task(asking.ask(2))
        await asyncio.to_thread(held.begun.wait, 10)
        gone.cancel()
        held.goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    assert asyncio.run(ask()) == 2


def test_a_loop_that_is_closed_by_then_is_not_told() -> None:
    held = Held()
    asking = Asking(held.work, 8)

    async def ask_and_leave() -> None:
        asked = asyncio.create_task(asking.ask(1))
        await asyncio.to_thread(held.begun.wait, 10)
        asked.cancel()

    asyncio.run(ask_and_leave())
    held.goes_on.set()
    assert all_of(asking, [2]) == [2]


def test_at_the_end_of_the_process_requests_fail_and_do_not_wait() -> None:
    asking: Asking[int, int] = Asking(lambda requests: requests, 8)
    asking._thread.shutdown()
    answers = all_of(asking, range(10))
    assert all(isinstance(answer, RuntimeError) for answer in answers)


def test_an_interrupted_process_ends_with_the_batch_it_is_at() -> None:
    """Python waits for the thread at work, and the loop beside it would hand over one batch after the other."""
    program = """
        import asyncio, threading, time
        from shardflow.dvc.asking import Asking

        def work(requests):
            print(len(requests), flush=True)
            time.sleep(0.05)
            return requests

        async def ask_all():
            asking = Asking(work, 4)
            few = asyncio.Semaphore(8)
            async def ask(number):
                async with few:
                    await asking.ask(number)
            await asyncio.gather(*(ask(number) for number in range(1000)), return_exceptions=True)

        threading.Thread(target=asyncio.run, args=(ask_all(),), daemon=True).start()
        time.sleep(0.2)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert 1 <= len(done.stdout.split()) < 20
