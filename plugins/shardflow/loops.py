"""Inner loops in two forms: numpy's, there at once, and those that numba compiles, made ready while the others serve.

Both give the same bytes. Importing numba and reading its cache takes half a second, compiling for the first time
several: nobody waits for that, unless SHARDFLOW_KERNELS=numba asks for it.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
VARIABLE = "SHARDFLOW_KERNELS"
MANY_BITS = 256


class Loops(Generic[T]):
    """One set of loops in both forms."""

    def __init__(self, plain: T, make: Callable[[], T], *, worth: int) -> None:
        """`make` compiles, or raises ImportError; for fewer bytes than `worth` numpy is done before numba is there."""
        self.plain = plain
        self._make = make
        self._worth = worth
        self._lock = threading.Lock()
        self._made: T | None = None
        self._hopeless = False
        self._bits = 0
        self._maker: threading.Thread | None = None

    def serving(self, size: int) -> T:
        """The loops to use on `size` bytes now."""
        return self.plain if not wished() and size < self._worth else self._at_hand(begin=True)

    def serving_bits(self, size: int) -> T:
        """The same where that may have been all: the compiled ones are made once it was much, and serve any size.

        Where other loops have had numba imported already, making these takes a moment only.
        """
        self._bits += size
        return self._at_hand(begin="numba" in sys.modules or self._bits > MANY_BITS * self._worth)

    def _at_hand(self, *, begin: bool) -> T:
        wish = wished()
        if wish == "numpy":
            return self.plain
        if wish == "numba":
            return self._demanded()
        if self._made is None and begin:
            self._begin()
        return self.plain if self._made is None else self._made

    def best(self) -> T:
        """The fastest that works here, if need be after a wait."""
        if wished() == "numpy":
            return self.plain
        return self._compiled() or self.plain

    def _demanded(self) -> T:
        compiled = self._compiled()
        if compiled is None:
            raise ShardflowError(f"{VARIABLE} asks for numba, which does not work here", remedy="unset it")
        return compiled

    def _begin(self) -> None:
        # A thread that was under way in the parent of a forked process is dead in the child.
        if self._hopeless or (self._maker is not None and self._maker.is_alive()):
            return
        self._maker = threading.Thread(target=self._compiled, name="shardflow-compile")
        with suppress(RuntimeError):  # the interpreter is ending
            self._maker.start()

    def _compiled(self) -> T | None:
        with self._lock:
            if self._made is None and not self._hopeless:
                try:
                    self._made = self._make()
                except ImportError:
                    self._hopeless = True
        return self._made


def wished() -> str:
    """What the environment asks for: `numpy`, `numba`, or nothing."""
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", "numpy", "numba"}:
        raise ShardflowError(f"{VARIABLE} is {wish!r}", remedy="set it to numpy or numba, or unset it")
    return wish
