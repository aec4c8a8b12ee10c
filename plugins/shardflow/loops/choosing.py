"""Which form of the loops serves now: numpy's until the compiled ones would pay, and while those are made ready.

Loading what is kept takes some hundredths of a second: who knows of much work to come waits for it. Compiling for the
first time takes several seconds: nobody waits for that, unless SHARDFLOW_KERNELS=numba asks for it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from shardflow.errors import ShardflowError
from shardflow.loops.loopset import Forsaken, workshop

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
VARIABLE = "SHARDFLOW_KERNELS"
LINKER = "shardflow.loops.linking"
PATIENCE = 0.15  # seconds: several times what loading takes, and nothing beside compiling
CHEAPER = 16  # times, to load loops where others have been loaded: most of it is to import LLVM


class Loops(Generic[T]):
    """One set of loops in both forms."""

    def __init__(self, plain: T, make: Callable[[], T], *, worth: int) -> None:
        """`make` loads or compiles; numpy is done with `worth` bytes in about the time that loading takes."""
        self.plain = plain
        self._make = make
        self._worth = worth
        self._served = 0
        self._lock = threading.Lock()
        self._made: T | None = None
        self._failed: Exception | None = None
        self._maker: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._alone)

    def serving(self, size: int) -> T:
        """The loops to use on `size` bytes now."""
        wish = wished()
        if wish:
            return self.plain if wish == "numpy" else self._demanded()
        if self._made is not None:
            return self._made
        self._served += size  # that a thread's share may be lost does not matter
        if self._served > self._threshold():
            self._begin()
        return self.plain

    def expect(self, size: int) -> None:
        """So many bytes are to come: the compiled loops had better be ready for them, which is worth one short wait."""
        if size > self._threshold() and self._made is None and not wished() and (maker := self._begin()):
            maker.join(PATIENCE)

    def best(self) -> T:
        """The fastest that works here, if need be after a wait."""
        if wished() == "numpy":
            return self.plain
        return self._compiled() or self.plain

    def _demanded(self) -> T:
        compiled = self._compiled()
        if compiled is None:
            raise ShardflowError(
                f"{VARIABLE} asks for numba, which does not work here", remedy="unset it"
            ) from self._failed
        return compiled

    def _threshold(self) -> int:
        return self._worth // CHEAPER if LINKER in sys.modules else self._worth

    def _begin(self) -> threading.Thread | None:
        """The thread that makes them, if it begins now."""
        if self._failed or (self._maker is not None and self._maker.is_alive()):
            return None
        self._maker = threading.Thread(target=self._compiled, name="shardflow-loops")
        try:
            self._maker.start()
        except RuntimeError:  # the interpreter is ending
            return None
        return self._maker

    def _compiled(self) -> T | None:
        with self._lock:
            if self._made is None and self._failed is None:
                try:
                    self._made = self._make()
                except Exception as error:  # noqa: BLE001 - whatever a compiler may raise, numpy goes on
                    self._failed = error
        return self._made

    def _alone(self) -> None:
        """In the child of a fork, where the thread that held the lock is no more."""
        self._lock = threading.Lock()
        self._maker = None
        if workshop.forsaken:
            self._made, self._failed = None, Forsaken()


def wished() -> str:
    """What the environment asks for: `numpy`, `numba`, or nothing."""
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", "numpy", "numba"}:
        raise ShardflowError(f"{VARIABLE} is {wish!r}", remedy="set it to numpy or numba, or unset it")
    return wish
