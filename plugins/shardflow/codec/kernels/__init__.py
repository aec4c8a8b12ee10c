"""The inner loops, over words, steps and flags: compiled, and the same in plain numpy.

SHARDFLOW_KERNELS=numpy or =numba settles which of them serve, for tests and odd platforms.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from shardflow.codec.kernels.arrays import ArrayKernels
from shardflow.codec.kernels.flag_arrays import ArrayFlagKernels
from shardflow.codec.kernels.step_arrays import ArrayStepKernels
from shardflow.loops import Loops

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Kernels
    from shardflow.codec.kernels.flags import FlagKernels
    from shardflow.codec.kernels.steps import StepKernels

# What numpy does in the time that it takes to load compiled loops, which do the same in an eighth to a half of it.
_WORTH_LOADING_PLANES = 128 << 20
_WORTH_LOADING_STEPS = 8 << 20
_WORTH_LOADING_FLAGS = 64 << 20


def kernels_for(size: int) -> Kernels:
    """The loops to use on `size` bytes."""
    return _planes.serving(size)


def step_kernels_for(size: int) -> StepKernels:
    """The loops behind deltas to use on `size` bytes."""
    return _steps.serving(size)


def flag_kernels_for(size: int) -> FlagKernels:
    """The loops over flags to use on `size` bytes."""
    return _flags.serving(size)


def best_kernels() -> Kernels:
    """The fastest loops that work here, if need be after a wait."""
    return _planes.best()


def _fused() -> Kernels:
    _require_little_endian()
    from shardflow.codec.kernels.fused import FusedKernels  # noqa: PLC0415

    return FusedKernels.ready()


def _fused_steps() -> StepKernels:
    _require_little_endian()
    from shardflow.codec.kernels.fused_steps import FusedStepKernels  # noqa: PLC0415

    return FusedStepKernels.ready()


def _fused_flags() -> FlagKernels:
    _require_little_endian()
    from shardflow.codec.kernels.fused_flags import FusedFlagKernels  # noqa: PLC0415

    return FusedFlagKernels.ready()


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise ImportError("the loops work in the machine's own byte order, and what is stored is little-endian")


_planes: Loops[Kernels] = Loops(ArrayKernels(), _fused, worth=_WORTH_LOADING_PLANES)
_steps: Loops[StepKernels] = Loops(ArrayStepKernels(), _fused_steps, worth=_WORTH_LOADING_STEPS)
_flags: Loops[FlagKernels] = Loops(ArrayFlagKernels(), _fused_flags, worth=_WORTH_LOADING_FLAGS)
