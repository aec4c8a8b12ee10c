"""Memory for tensors: of huge pages where it is much and they are quick to get, since faulting small ones in takes
longer than reading does.

A host that takes free memory back from its virtual machines is slow to give huge pages again: a thousand times as slow
as a machine that has them. So one page is tried first, and where it takes long there are small ones for a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from shardflow.flavor.errors import CheckpointUnusable
from shardflow.store.memory import buffer

WORTH_HUGE_PAGES = 4 << 20
SLOW_SECONDS = 0.001  # for a huge page; 0.0001 is usual
PAUSE_SECONDS = 0.25
_HUGE_PAGE = 2 << 20

_slow_until = 0.0


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of the CPU with no particular content."""
    size = torch.empty(shape, dtype=dtype, device="meta").nbytes
    memory = _of_huge_pages(size) if size >= WORTH_HUGE_PAGES else None
    return torch.empty(shape, dtype=dtype) if memory is None else torch.frombuffer(memory, dtype=dtype).view(shape)


def empty_for(name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """The same for a tensor that is to be read, whose name is told where there is no memory for it."""
    try:
        return empty(shape, dtype)
    except (OSError, RuntimeError, MemoryError, OverflowError, TypeError):
        raise CheckpointUnusable(
            f"there is no memory for {name}, which is {str(dtype).removeprefix('torch.')} {list(shape)}",
            remedy="read it in parts, or on a larger machine",
        ) from None


def _of_huge_pages(size: int) -> memoryview | None:
    """That many bytes, or None if it would take long to touch them."""
    global _slow_until  # noqa: PLW0603  # the machine is one for all threads
    if time.monotonic() < _slow_until:
        return None
    memory = buffer(size)
    first = -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % _HUGE_PAGE
    began = time.perf_counter()
    memory[first] = 0
    if time.perf_counter() - began < SLOW_SECONDS:
        return memory
    _slow_until = time.monotonic() + PAUSE_SECONDS
    return None
