"""The inner loops, words to byte planes and words to steps and back: compiled by numba, and the same in plain numpy."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from shardflow.codec.kernels.arrays import ArrayKernels
from shardflow.codec.kernels.step_arrays import ArrayStepKernels
from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Kernels
    from shardflow.codec.kernels.steps import StepKernels

_WORTH_COMPILED = 256 << 10  # below it numpy is done before numba is even imported


class _Set(NamedTuple):
    planes: Kernels
    steps: StepKernels


_arrays = _Set(ArrayKernels(), ArrayStepKernels())
_lock = threading.Lock()
_compiled: list[_Set | None] = []  # empty until the first look; [None] where numba cannot serve


def kernels_for(size: int) -> Kernels:
    """The loops to use on `size` bytes; SHARDFLOW_KERNELS=numpy or =numba settles it, for tests and odd platforms."""
    return _set_for(size).planes


def step_kernels_for(size: int) -> StepKernels:
    """The loops behind deltas to use on `size` bytes, chosen in the same way."""
    return _set_for(size).steps


def _set_for(size: int) -> _Set:
    wish = os.environ.get("SHARDFLOW_KERNELS", "")
    if wish not in {"", "numpy", "numba"}:
        raise ShardflowError(f"SHARDFLOW_KERNELS is {wish!r}", remedy="set it to numpy or numba, or unset it")
    if wish == "numpy" or (not wish and size < _WORTH_COMPILED):
        return _arrays
    compiled = _compiled_kernels()
    if compiled is None and wish:
        raise ShardflowError("SHARDFLOW_KERNELS asks for numba, which does not work here", remedy="unset it")
    return compiled or _arrays


def _compiled_kernels() -> _Set | None:
    if not _compiled:
        with _lock:
            if not _compiled:
                _compiled.append(_load())
    return _compiled[0]


def _load() -> _Set | None:
    if sys.byteorder != "little":
        return None  # the loops work in the machine's own byte order, and what is stored is little-endian
    try:
        from shardflow.codec.kernels.fused import FusedKernels  # noqa: PLC0415 - numba takes half a second to import
        from shardflow.codec.kernels.step_loops import FusedStepKernels  # noqa: PLC0415

        return _Set(FusedKernels(), FusedStepKernels())
    except ImportError:
        return None
