"""How the loops are compiled: ahead of their first use, for one type of word each, and kept on disk where possible."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numba
import numba.extending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    Loop: TypeAlias = Callable[..., int]  # how much it made, or nothing worth looking at
    SignatureFor: TypeAlias = Callable[[Any], Any]
    """The signature of a loop for one type of word."""

types: Any = numba.types  # typed in parts only
_intrinsic: Any = numba.extending.intrinsic
WORDS: dict[int, Any] = {1: types.uint8, 2: types.uint16, 4: types.uint32, 8: types.uint64}


def compiled(loop: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """The loop for one signature, without the interpreter's lock."""
    try:
        fast: Callable[..., Any] = numba.njit(signature, nogil=True, cache=True)(loop)
    except Exception:  # noqa: BLE001 - an unwritable, full or damaged cache; if it is the loop, the next line says so
        fast = numba.njit(signature, nogil=True)(loop)
    return fast


class CompiledLoops:
    """Loops by name, each compiled for a width of words, or read from numba's cache, when it is first needed."""

    def __init__(self, loops: Mapping[str, tuple[Loop, SignatureFor]]) -> None:
        self._loops = loops
        self._lock = threading.Lock()
        self._compiled: dict[tuple[str, int], Loop] = {}

    def loop(self, name: str, width: int) -> Loop:
        with self._lock:
            if (name, width) not in self._compiled:
                loop, signature = self._loops[name]
                self._compiled[name, width] = compiled(loop, signature(WORDS[width]))
            return self._compiled[name, width]


def read(element: Any) -> Any:
    """The type of an array that is only read, at any address."""
    return types.Array(element, 1, "C", readonly=True, aligned=False)


def written(element: Any) -> Any:
    """The type of an array that is written, at any address."""
    return types.Array(element, 1, "C", aligned=False)


def _to_one_instruction(emit: Callable[[Any, Any, Any], Any]) -> Any:
    """A function of a number of 64 bits, for use in loops, which the compiler turns into what `emit` says."""

    def typed(_: Any, __: Any) -> Any:
        return types.uint64(types.uint64), lambda context, builder, _, given: emit(context, builder, given[0])

    return _intrinsic(typed)


counted_ones = _to_one_instruction(lambda _, builder, number: builder.ctpop(number))
"""How many bits are set."""

trailing_zeros = _to_one_instruction(
    lambda context, builder, number: builder.cttz(number, context.get_constant(types.boolean, False))
)
"""How many bits lie below the lowest that is set; 64 where none is."""
