"""What a compiled loop takes, and how it is called: arrays and numbers in one block of 64-bit words."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Loop: TypeAlias = Callable[..., int]
"""Called with what its signature says; returns how much it made, or nothing worth looking at."""


@dataclass(frozen=True, slots=True)
class Array:
    """Elements in a row, at any address; in the block: where, and how many."""

    element: str  # as numpy names it: u1, u2, u4, u8, i8
    written: bool


@dataclass(frozen=True, slots=True)
class Number:
    """An integer; in the block: its value, whatever its size."""

    element: str


Signature: TypeAlias = tuple[Array | Number, ...]
_Code: TypeAlias = Callable[[bytes], int]


def read(element: str) -> Array:
    return Array(element, written=False)


def written(element: str) -> Array:
    return Array(element, written=True)


def number(element: str) -> Number:
    return Number(element)


def entered(address: int, signature: Signature) -> Loop:
    """The machine code at an address as a function; the interpreter's lock is let go while it runs."""
    code: _Code = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p)(address)
    pack = struct.Struct("=" + "".join(map(_layout, signature))).pack
    arrays = [
        (at, np.dtype(kind.element), kind.written) for at, kind in enumerate(signature) if isinstance(kind, Array)
    ]

    def loop(*given: Any) -> int:
        block = list(given)
        for at, dtype, is_written in reversed(arrays):
            block[at : at + 1] = _place(given[at], dtype, is_written)
        return code(pack(*block))

    return loop


def _layout(kind: Array | Number) -> str:
    if isinstance(kind, Array):
        return "QQ"
    return "q" if kind.element.startswith("i") else "Q"


def _place(array: npt.NDArray[Any], dtype: np.dtype[Any], is_written: bool) -> tuple[int, int]:
    flags = array.flags
    if array.dtype != dtype or not flags.c_contiguous or (is_written and not flags.writeable):
        wanted = f"{'writable ' if is_written else ''}{dtype} in a row"
        raise TypeError(f"the loop takes {wanted}, not {array.dtype} with strides of {array.strides}")
    return array.__array_interface__["data"][0], array.size
