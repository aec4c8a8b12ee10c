"""Memory that states are copied into before they are written, used again and again, and never more than was agreed."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from threading import Condition

import torch

from shardflow.flavor.memory import empty
from shardflow.flavor.shards import ShardSource

ALIGNED = 64


class StagingBuffer:
    """Room for one state; it grows to the largest that it was given."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self.holds: Sequence[ShardSource] = ()  # the files that were stored from it, as long as it is unchanged

    @property
    def size(self) -> int:
        return len(self._memory)

    def copy(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Copies of tensors, of the CPU or of devices, that stay as they are until the next call."""
        self.holds = ()
        self.reserve(sum(_room(tensor) for tensor in tensors.values()))
        copies, start = {}, 0
        for name, tensor in tensors.items():
            size = prod(tensor.shape) * tensor.element_size()
            target = self._memory[start : start + size].view(tensor.dtype).view(tensor.shape)
            target.copy_(tensor, non_blocking=True)
            copies[name] = target
            start += _room(tensor)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)  # copies of devices have only been asked for so far
        return copies

    def reserve(self, size: int, *, touch: bool = False) -> None:
        """Have room for so much; what is in it is lost if it has to grow. `touch` makes the first copy no slower."""
        if size > self.size:
            self._memory = torch.empty(0, dtype=torch.uint8)  # the old goes before the new comes
            self._memory = _allocated(size)
            if touch:
                self._memory.numpy()[:: mmap.PAGESIZE] = 0


class StagingBuffers:
    """A fixed number of buffers; who finds none free waits until a write is done with one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle = [StagingBuffer() for _ in range(count)]
        self._returned = Condition()

    def take(self) -> StagingBuffer:
        with self._returned:
            self._returned.wait_for(lambda: self._idle)
            of_no_use = [buffer for buffer in self._idle if not buffer.holds]
            buffer = of_no_use[-1] if of_no_use else self._idle[-1]
            self._idle.remove(buffer)
            return buffer

    def borrow(self, buffer: StagingBuffer | None) -> StagingBuffer | None:
        """A buffer for what it holds still, if it does; it has to be given back."""
        with self._returned:
            if buffer is None or buffer not in self._idle or not buffer.holds:
                return None
            self._idle.remove(buffer)
            return buffer

    def give(self, buffer: StagingBuffer) -> None:
        with self._returned:
            self._idle.append(buffer)  # the last one used is the first one used again: its memory is warm
            self._returned.notify()

    def prepare(self, size: int) -> None:
        """Get the memory of one more buffer if none that has some is free: its first user need not wait for it then."""
        with self._returned:
            new = [buffer for buffer in self._idle if not buffer.size]
            if not new or any(buffer.size and not buffer.holds for buffer in self._idle):
                return
            self._idle.remove(new[0])
        with suppress(MemoryError, OSError, RuntimeError):  # who needs it is told
            new[0].reserve(size, touch=True)
        self.give(new[0])

    def free(self) -> None:
        """Let go of the memory of all buffers that are not in use."""
        with self._returned:
            self._idle = [StagingBuffer() for _ in self._idle]


def _room(tensor: torch.Tensor) -> int:
    size = prod(tensor.shape) * tensor.element_size()
    return -(-size // ALIGNED) * ALIGNED


def _allocated(size: int) -> torch.Tensor:
    """Page-locked where a GPU copies into it; otherwise in large pages, the first use of which costs less."""
    if torch.cuda.is_available():
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    return empty([size], torch.uint8)
