from __future__ import annotations

import threading

import torch

from shardflow.flavor.checkpointing.staging import StagingBuffer, StagingBuffers
from shardflow.flavor.shards import ShardSource

HELD = ShardSource("a", b"", (), (), 0)


def test_copies_stay_as_they_were_and_have_the_same_types() -> None:
    tensors = {
        "a": torch.arange(6).reshape(2, 3).T,
        "b": torch.tensor(2.0, dtype=torch.bfloat16),
        "nothing": torch.empty(0, 4),
        "flags": torch.tensor([True, False, True]),
    }
    wanted = {name: tensor.clone() for name, tensor in tensors.items()}
    copies = StagingBuffer().copy(tensors)
    for tensor in tensors.values():
        tensor.zero_()
    assert all(torch.equal(copies[name], wanted[name]) for name in wanted)
    assert all(copy.dtype == wanted[name].dtype and copy.is_contiguous() for name, copy in copies.items())


def test_a_buffer_grows_to_the_largest_state_and_no_further() -> None:
    buffer = StagingBuffer()
    sizes = []
    for count in (100, 1000, 10):
        buffer.copy({"a": torch.ones(count)})
        sizes.append(buffer.size)
    assert sizes == [448, 4032, 4032]


def test_what_a_buffer_held_is_forgotten_when_it_is_used_again() -> None:
    buffers = StagingBuffers(2)
    first = buffers.take()
    first.holds = (HELD,)
    buffers.give(first)
    second = buffers.take()
    assert second is not first  # the one that holds nothing goes first
    assert buffers.borrow(first) is first
    assert buffers.borrow(first) is None
    assert buffers.borrow(second) is None
    buffers.give(first)
    assert buffers.take() is first
    first.copy({"a": torch.ones(1)})
    buffers.give(first)
    assert buffers.borrow(first) is None
    assert buffers.borrow(None) is None


def test_who_finds_no_buffer_waits() -> None:
    buffers = StagingBuffers(1)
    only = buffers.take()
    found: list[StagingBuffer] = []
    waiting = threading.Thread(target=lambda: found.append(buffers.take()))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    buffers.give(only)
    waiting.join(60)
    assert found == [only]


def test_the_memory_of_the_next_buffer_is_made_ready_and_no_more() -> None:
    buffers = StagingBuffers(3)
    used = buffers.take()
    used.copy({"a": torch.ones(10_000)})
    used.holds = (HELD,)
    buffers.give(used)
    for _ in range(3):
        buffers.prepare(used.size)
    assert [buffers.take().size for _ in range(3)] == [used.size, 0, used.size]
    buffers.prepare(used.size)  # there is none left
    buffers.give(used)
    buffers.free()
    assert buffers.take().size == 0
