"""Reads one large range as several requests side by side, because one connection seldom fills a link."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from shardflow.transport.cancel import Cancellation
from shardflow.transport.limits import PART_BYTES, parallel_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

ReadPart: TypeAlias = "Callable[[int, int, Cancellation], Buffer]"
"""(start, length, cancel) -> exactly those bytes, or an error."""


def read_in_parts(read: ReadPart, start: int, out: memoryview, cancel: Cancellation) -> None:
    """Fill `out` from `start` on. The first part to fail stops the others, and its error is raised."""
    siblings = Cancellation(parent=cancel)

    def fetch(at: int) -> None:
        siblings.check()
        piece = out[at : at + PART_BYTES]
        piece[:] = memoryview(read(start + at, piece.nbytes, siblings)).cast("B")

    futures = [_pool(parallel_parts()).submit(fetch, at) for at in range(0, out.nbytes, PART_BYTES)]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failure = next((error for future in done if (error := future.exception())), None)
    except BaseException:  # Ctrl-C in the waiting thread
        siblings.cancel()
        raise
    if failure:
        siblings.cancel("another part failed")
        wait(futures)
        raise failure


def fresh_memory(size: int) -> memoryview:
    """Memory to fill, not cleared first as a bytearray would be."""
    return np.empty(size, np.uint8).data


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """One pool for the process: however many ranges are read at a time, the connections stay within bounds."""
    return ThreadPoolExecutor(threads, thread_name_prefix="shardflow-part")


os.register_at_fork(after_in_child=_pool.cache_clear)  # the pool's threads are the parent's
