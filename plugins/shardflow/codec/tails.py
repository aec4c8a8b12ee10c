"""How large the values of a class are, counted roughly: each value on its own while it is small, then by its bits."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardflow.codec.kernels.contract import Words

_EXACT_BITS = 4
_EXACT = 1 << _EXACT_BITS  # values below it are kinds of their own
KINDS = _EXACT + 64 - _EXACT_BITS
_SHORT = np.dtype(np.uint16)


def kinds_of(values: Words) -> npt.NDArray[np.int64]:
    """The kind of each value, less than KINDS and ascending with the values."""
    return _kinds_of_short()[values] if values.itemsize <= _SHORT.itemsize else _worked_out(values)


@cache
def _kinds_of_short() -> npt.NDArray[np.int64]:
    """Of every value of two bytes: to look them up takes a tenth of the time."""
    return _worked_out(np.arange(1 << 8 * _SHORT.itemsize, dtype=np.uint32))


def _worked_out(values: Words) -> npt.NDArray[np.int64]:
    bits = np.frexp(values.astype(np.float64))[1]
    # Rounding to float64 may lift a value of 64 bits to one of 65.
    return np.where(values < _EXACT, values.astype(np.int64), np.minimum(_EXACT + bits - _EXACT_BITS - 1, KINDS - 1))


def extra_bits() -> npt.NDArray[np.int64]:
    """By kind, how many bits tell a value from the others of its kind."""
    return np.maximum(np.arange(KINDS) - _EXACT + _EXACT_BITS, 0) * (np.arange(KINDS) >= _EXACT)


class Tail:
    """Answers how many values are at least so large, from how many there are of each kind."""

    def __init__(self, counts: Iterable[float]) -> None:
        self._beyond = [*accumulate(reversed(list(counts)), initial=0.0)][::-1]  # by the kind that the rest begins with

    def at_least(self, value: int) -> float:
        """Between two powers of two it is taken to fall evenly."""
        if value < _EXACT:
            return self._beyond[value]
        bits = value.bit_length()
        kind = _EXACT + bits - _EXACT_BITS - 1
        if kind >= KINDS:
            return 0.0
        before, after = self._beyond[kind], self._beyond[kind + 1]
        return before + (after - before) * (value / (1 << bits - 1) - 1)
