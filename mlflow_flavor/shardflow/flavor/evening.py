"""Makes shards of nearly equal size more equal, by exchanging tensors between the fullest and the emptiest of them."""

from __future__ import annotations

from itertools import product

from shardflow.flavor.tensors import TensorInfo

EVEN_ENOUGH = 0.01
_MOST_PAIRS = 10_000  # so many small tensors are spread evenly as it is

Shards = list[list[TensorInfo]]


def evened(shards: Shards) -> Shards:
    """The same tensors in as many shards, the largest of which is hardly larger than the smallest.

    A shard that has nothing to give, such as one with a single large tensor, stays; the others are evened without it.
    """
    shards = [list(shard) for shard in shards]
    sizes = [sum(tensor.size for tensor in shard) for shard in shards]
    giving = list(range(len(shards)))
    for _ in range(4 * len(shards)):
        full, empty = max(giving, key=sizes.__getitem__), min(giving, key=sizes.__getitem__)
        gap = sizes[full] - sizes[empty]
        if gap <= EVEN_ENOUGH * sizes[full] or (len(shards[full]) + 1) * (len(shards[empty]) + 1) > _MOST_PAIRS:
            break
        moved = _exchange(shards[full], shards[empty], gap)
        sizes[full] -= moved
        sizes[empty] += moved
        if not moved:
            giving.remove(full)
    return shards


def _exchange(full: list[TensorInfo], empty: list[TensorInfo], gap: int) -> int:
    """Move a tensor over, or swap it for a smaller one, whichever halves the gap best; returns by how many bytes."""
    given, taken = min(
        product(full, [*empty, None]), key=lambda pair: abs(gap - 2 * (pair[0].size - (pair[1].size if pair[1] else 0)))
    )
    moved = given.size - (taken.size if taken else 0)
    if not 0 < moved < gap:
        return 0
    full.remove(given)
    empty.append(given)
    if taken:
        empty.remove(taken)
        full.append(taken)
    return moved
