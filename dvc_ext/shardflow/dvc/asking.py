"""Requests that many coroutines make at the same time, done together by one thread.

`gathering` is the same for threads. Where a request takes less time than waking a thread, that is most of its cost:
ten thousand small files wake threads half a million times, and Python runs one of them at a time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

R = TypeVar("R")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Asked(Generic[R, A]):
    """One coroutine's request, and where it waits for the answer."""

    request: R
    answer: asyncio.Future[A]


class Asking(Generic[R, A]):
    """What is asked while one batch is done makes up the next one."""

    def __init__(
        self,
        work: Callable[[list[R]], Sequence[A | Exception]],
        most: int,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        """`work` answers up to `most` requests, in their order; an exception is raised where that request was made.

        Those of one `thread` take turns.
        """
        self._work = work
        self._most = most
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="shardflow-asked")
        self._lock = Lock()
        self._waiting: list[Asked[R, A]] = []
        self._at_work = False

    async def ask(self, request: R) -> A:
        """The answer, once it is there."""
        loop = asyncio.get_running_loop()
        asked: Asked[R, A] = Asked(request, loop.create_future())
        with self._lock:
            self._waiting.append(asked)
            begins, self._at_work = not self._at_work, True
        if begins:
            loop.call_soon(self._begin)  # after the others that the loop lets ask in this turn
        return await asked.answer

    def _begin(self) -> None:
        """Each batch is handed to the thread anew: that is refused once the process ends, which waits for the last."""
        try:
            self._thread.submit(self._work_off_one)
        except RuntimeError as error:
            while asked := self._next():
                _answer(asked, [error] * len(asked))

    def _work_off_one(self) -> None:
        if asked := self._next():
            _answer(asked, self._answers([each.request for each in asked]))
            self._begin()

    def _next(self) -> list[Asked[R, A]]:
        with self._lock:
            asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            self._at_work = bool(asked)
        return asked

    def _answers(self, requests: list[R]) -> Sequence[A | Exception]:
        try:
            return self._work(requests)
        except Exception as error:  # noqa: BLE001  # raised again where they were made
            return [error] * len(requests)


def _answer(asked: Sequence[Asked[R, A]], answers: Sequence[A | Exception]) -> None:
    """Each in the loop that it was asked from."""
    parts: dict[asyncio.AbstractEventLoop, list[int]] = defaultdict(list)
    for number, each in enumerate(asked):
        parts[each.answer.get_loop()].append(number)
    for loop, numbers in parts.items():
        with suppress(RuntimeError):  # it was closed, and nobody waits
            loop.call_soon_threadsafe(_tell, [asked[n] for n in numbers], [answers[n] for n in numbers])


def _tell(asked: Sequence[Asked[R, A]], answers: Sequence[A | Exception]) -> None:
    for each, answer in zip(asked, answers, strict=True):
        if each.answer.done():  # cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            each.answer.set_exception(answer)
        else:
            each.answer.set_result(answer)
