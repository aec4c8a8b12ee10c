"""What TensorStore was asked for and has not done: bounded in tensors and in bytes, and awaited whatever happens."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.transport import ByteBudget

_FAILURES = (ValueError, RuntimeError, OSError, LookupError, TypeError)


class InFlight:
    """Tensors on their way to the disk or from it, in memory of the caller: leaving the context waits for them."""

    def __init__(self, done: str, at_once: int, memory: int, source: object = None) -> None:
        self._done = done  # "read" or "written": what an error says of a tensor
        self._at_once = at_once
        self._source = source
        self._budget = ByteBudget(memory)
        self._ahead: deque[tuple[str, list[Any]]] = deque()

    @property
    def total(self) -> int:
        """Bytes that may be under way at once."""
        return self._budget.total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while self._ahead and kind is None:
                self._settle()
        finally:
            for _name, copies in self._ahead:
                for copy in copies:
                    copy.exception()

    def next_tensor(self, name: str) -> None:
        """What follows is for this tensor; waits until it is one of few enough."""
        while len(self._ahead) >= self._at_once:
            self._settle()
        self._ahead.append((name, []))

    def copy(self, size: int, begin: Callable[[], Any]) -> None:
        """Begin to copy so many bytes of the tensor once there is room for them."""
        self._budget.acquire(size)
        try:
            copying = begin().commit
        except BaseException:
            self._budget.release(size)
            raise
        copying.add_done_callback(lambda _: self._budget.release(size))
        self._ahead[-1][1].append(copying)

    def _settle(self) -> None:
        name, copies = self._ahead[0]
        with said_of(name, self._done, self._source):
            for copy in copies:
                copy.result()
        self._ahead.popleft()


@contextmanager
def said_of(name: str, done: str, source: object = None) -> Iterator[None]:
    """Turn what TensorStore raises into an error that names the tensor."""
    try:
        yield
    except _FAILURES as error:
        if done == "written" and os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        where = f"{source}: " if source is not None else ""
        reason = " ".join(str(error).partition("[tensorstore_spec")[0].split())
        remedy = "restore the checkpoint from a copy" if done == "read" else "look at the place it was to go to"
        raise CheckpointDamaged(f"{where}tensor {name} cannot be {done}: {reason}", remedy=remedy) from None
