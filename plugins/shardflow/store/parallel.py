"""Many small requests at once, their results in order, and only a few of them ahead of whoever uses them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shardflow.transport import StoreURL

REQUESTS = 32
FAR_READERS = 16  # half of them wait where connections are quick
FEW = 64  # of a near store so many manifests are read in less time than it takes to start threads for them
NEAR_READERS = min(8, (os.cpu_count() or 1) + 1)  # more of them only push each other out of the caches

T = TypeVar("T")
R = TypeVar("R")


def readers(url: StoreURL) -> int:
    """How many threads to read chunks with."""
    return FAR_READERS if url.is_far else NEAR_READERS


def requesters(url: StoreURL, count: int) -> int:
    """How many threads to make so many small requests with."""
    return REQUESTS if url.is_far or count > FEW else 1


def in_parallel(work: Callable[[T], R], items: Iterable[T], threads: int = REQUESTS) -> Iterator[R]:
    """`work` of each item, in the order of the items; the first failure ends it. One thread is that of the caller."""
    if threads == 1:
        yield from map(work, items)
        return
    ahead: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="shardflow-requests")
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) >= 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
