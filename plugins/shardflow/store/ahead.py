"""Makes the next items of an iterator while the last one is being used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

T = TypeVar("T")


def made_ahead(items: Iterator[T], thread: Executor, most: int) -> Generator[T, None, None]:
    """The same items in the same order, up to `most` of them made by a pool's only thread before they are asked for.

    When this iterator is closed nothing of it runs any more: it waits for the item that is being made.
    """
    waiting: deque[Future[T | None]] = deque()
    try:
        for _ in range(most):
            waiting.append(thread.submit(next, items, None))
        while (item := waiting[0].result()) is not None:
            waiting.popleft()
            waiting.append(thread.submit(next, items, None))
            yield item
    finally:
        for each in waiting:
            each.cancel()
        wait(waiting)
