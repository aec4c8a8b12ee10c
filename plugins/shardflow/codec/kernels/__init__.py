"""The inner loops, words to byte planes and back: compiled by numba, and the same in plain numpy."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from shardflow.codec.kernels.arrays import ArrayKernels
from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Kernels

_WORTH_COMPILED = 256 << 10  # below it numpy is done before numba is even imported

_arrays = ArrayKernels()
_lock = threading.Lock()
_compiled: list[Kernels | None] = []  # empty until the first look; [None] where numba cannot serve


def kernels_for(size: int) -> Kernels:
    """The loops to use on `size` bytes; SHARDFLOW_KERNELS=numpy or =numba settles it, for tests and odd platforms."""
    wish = os.environ.get("SHARDFLOW_KERNELS", "")
    if wish not in {"", "numpy", "numba"}:
        raise ShardflowError(f"SHARDFLOW_KERNELS is {wish!r}", remedy="set it to numpy or numba, or unset it")
    if wish == "numpy" or (not wish and size < _WORTH_COMPILED):
        return _arrays
    compiled = _compiled_kernels()
    if compiled is None and wish:
        raise ShardflowError("SHARDFLOW_KERNELS asks for numba, which does not work here", remedy="unset it")
    return compiled or _arrays


def _compiled_kernels() -> Kernels | None:
    if not _compiled:
        with _lock:
            if not _compiled:
                _compiled.append(_load())
    return _compiled[0]


def _load() -> Kernels | None:
    if sys.byteorder != "little":
        return None  # the loops work in the machine's own byte order, and what is stored is little-endian
    try:
        from shardflow.codec.kernels.fused import FusedKernels  # noqa: PLC0415 - numba takes half a second to import

        return FusedKernels()
    except ImportError:
        return None
