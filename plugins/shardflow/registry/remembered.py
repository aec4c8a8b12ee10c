"""Results that are worth keeping because they follow from their input alone, found again by a digest of all of it.

What is kept like this cannot be out of date: another input has another digest. So whatever depends on anything else,
on the time or on an answer from elsewhere, has no place here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from blake3 import blake3
from typing_extensions import Buffer

R = TypeVar("R")


class Remembered(Generic[R]):
    """The results that were asked for last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[bytes, R] = OrderedDict()
        self._lock = Lock()

    def of(self, work: Callable[[], R], *given: Buffer, keep: Callable[[R], bool] = lambda _: True) -> R:
        """What the work makes of what is given. A failure is not kept, nor a result that is not worth it."""
        key = _digest(given)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = work()
        if keep(result):
            self._keep(key, result)
        return result

    def __len__(self) -> int:
        return len(self._results)

    def _keep(self, key: bytes, result: R) -> None:
        with self._lock:
            self._results[key] = result
            if len(self._results) > self._most:
                self._results.popitem(last=False)


def _digest(given: tuple[Buffer, ...]) -> bytes:
    """One digest for several pieces of data, each with its length before it."""
    digest = blake3()
    for data in given:
        view = memoryview(data)
        digest.update(view.nbytes.to_bytes(8, "little"))
        digest.update(view)
    return digest.digest()
