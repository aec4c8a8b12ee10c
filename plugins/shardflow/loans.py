"""Memory that is lent and used again: a copy into fresh pages runs at a tenth of the speed of one into pages in use."""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from contextlib import suppress

import numpy as np
from typing_extensions import Buffer

_SMALLEST_CLASS = 16  # 64 KiB: below it the allocator reuses memory well enough
_LARGEST_CLASS = 23  # 8 MiB: a read of several chunks
_SLACK = 4 << 10  # for headers, so that a chunk with its table does not need the next class
_IDLE_BYTES = 32 << 20  # for each class


class BufferPool:
    """Lends buffers that come back by themselves once nothing refers to them any more."""

    def __init__(self, idle_bytes: int = _IDLE_BYTES, *, larger_do: bool = False) -> None:
        """With `larger_do` an idle buffer of any size that is enough is lent: right where no loan lasts long."""
        self._larger_do = larger_do
        # Finalizers may run at any point of any thread, so the free lists must do without a lock: a deque's append and
        # pop are atomic, and `maxlen` drops what is too much.
        self._idle: dict[int, deque[memoryview]] = {
            exponent: deque(maxlen=idle_bytes >> exponent) for exponent in range(_SMALLEST_CLASS, _LARGEST_CLASS + 1)
        }

    def lend(self, size: int) -> memoryview:
        """`size` writable bytes of no particular content; they are lent as long as a view on them exists."""
        exponent = max(size - _SLACK - 1, 0).bit_length()
        if exponent not in self._idle:
            return np.empty(size, np.uint8).data
        exponent, memory = self._taken(exponent)
        # Every view made from `lease` keeps it alive, and it is not kept by the pool: its end is the end of the loan.
        lease = np.frombuffer(memory, np.uint8)
        weakref.finalize(lease, self._idle[exponent].append, memory).atexit = False
        return lease.data[:size]

    def _taken(self, exponent: int) -> tuple[int, memoryview]:
        """An idle buffer of this size, or else a new one; and the size it really has."""
        for each in range(exponent, _LARGEST_CLASS + 1 if self._larger_do else exponent + 1):
            with suppress(IndexError):
                return each, self._idle[each].pop()
        return exponent, fresh((1 << exponent) + _SLACK)


def fresh(size: int) -> memoryview:
    """Memory that goes back to the system at its end: the C library keeps large pieces for itself, once it saw some."""
    if size < 1 << 20:
        return np.empty(size, np.uint8).data
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def copy(source: Buffer, target: Buffer) -> None:
    """Copy bytes into as many, without the interpreter's lock, which an assignment to a memoryview keeps."""
    np.copyto(np.frombuffer(memoryview(target), np.uint8), np.frombuffer(memoryview(source), np.uint8))
