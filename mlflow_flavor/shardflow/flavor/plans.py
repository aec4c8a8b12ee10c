"""Which tensor goes into which file: pure functions over names and shapes, so a plan needs no memory for weights."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shardflow.errors import ShardflowError
from shardflow.flavor.errors import TensorUnusable
from shardflow.flavor.evening import evened
from shardflow.flavor.header import NOT_A_TENSOR
from shardflow.flavor.parts import block_of, layer_of, part_of
from shardflow.flavor.tensors import OTHER_NAME, TensorInfo, require_texts, without_ties

MAX_SHARD_BYTES = 2_000_000_000  # decimal, as Hugging Face counts
AUTO = "auto"
ONE_FILE = "one file"

Shards = list[list[TensorInfo]]


class PlanUnknown(ShardflowError):
    """A way of sharding that does not exist."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a model."""

    file: str
    tensors: tuple[TensorInfo, ...]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.size for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a model, and the names that stand for tensors stored under another one."""

    method: str
    shards: tuple[Shard, ...]
    aliases: Mapping[str, str]

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)


def plan(
    tensors: Iterable[TensorInfo],
    method: str = AUTO,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    aliases: Mapping[str, str] | None = None,
) -> Plan:
    """Divide a model into files of at most `max_shard_bytes`; a larger tensor has a file to itself.

    `layers` keeps every transformer block in one file, `balanced` makes the files equally large, `attention` puts the
    attention of the blocks apart from the rest, and embeddings and heads apart from both. `auto` makes one file of
    what fits into one, and otherwise shards by layers, or evenly where a block is too large for a file.
    `aliases` are names that are known to stand for others; ties among the tensors are found besides.
    """
    if max_shard_bytes <= 0:
        raise PlanUnknown(f"a shard of {max_shard_bytes} bytes holds nothing", remedy="set max_shard_bytes above 0")
    if method not in (AUTO, *METHODS):
        raise PlanUnknown(f"there is no sharding called {method!r}", remedy=f"use one of {', '.join([AUTO, *METHODS])}")
    kept, tied = without_ties(tensors)
    tied.update(aliases or {})
    require_nameable(kept, tied)
    if method == AUTO:
        method = _fitting(kept, max_shard_bytes)
    shards = [kept] if method == ONE_FILE else METHODS[method](kept, max_shard_bytes)
    files = shard_files(len(shards))
    made = tuple(Shard(file, tuple(shard)) for file, shard in zip(files, shards, strict=True))
    return Plan(method, made, tied)


def require_nameable(tensors: Iterable[TensorInfo], aliases: Iterable[str]) -> None:
    """Refuse names that the header of a safetensors file cannot have."""
    names = [tensor.name for tensor in tensors]
    require_texts([*names, *aliases])
    if NOT_A_TENSOR in names:
        raise TensorUnusable(
            f"a tensor is called {NOT_A_TENSOR}, which in safetensors is no tensor's name", remedy=OTHER_NAME
        )


def shard_files(count: int) -> list[str]:
    """The names that Hugging Face gives so many files."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def layers(tensors: Sequence[TensorInfo], limit: int) -> Shards:
    """Blocks in their order, each whole, as many to a shard as fit."""
    return _packed(_grouped(tensors, lambda tensor: layer_of(tensor.name)), limit)


def attention(tensors: Sequence[TensorInfo], limit: int) -> Shards:
    """The attention of as many blocks as fit to a shard, then what else the blocks have; embeddings and heads apart."""
    lanes = _grouped(tensors, lambda tensor: part_of(tensor.name))
    lanes.sort(key=lambda lane: part_of(lane[0].name).value)
    return [shard for lane in lanes for shard in layers(lane, limit)]


def balanced(tensors: Sequence[TensorInfo], limit: int) -> Shards:
    """As few shards as can be, equally large: the largest tensors first, each to the shard that has least."""
    alone = [[tensor] for tensor in tensors if tensor.size > limit]
    rest = [tensor for tensor in tensors if tensor.size <= limit]
    count = -(-sum(tensor.size for tensor in rest) // limit) or bool(rest)
    while (shards := evened(_spread(rest, count))) and any(_size(shard) > limit for shard in shards):
        count += 1
    order = {tensor.name: place for place, tensor in enumerate(tensors)}
    made = [sorted(shard, key=lambda tensor: order[tensor.name]) for shard in [*shards, *alone] if shard]
    return sorted(made, key=lambda shard: order[shard[0].name]) or [[]]


METHODS: Mapping[str, Callable[[Sequence[TensorInfo], int], Shards]] = {
    "layers": layers,
    "balanced": balanced,
    "attention": attention,
}


def _fitting(tensors: Sequence[TensorInfo], limit: int) -> str:
    if _size(tensors) <= limit:
        return ONE_FILE
    blocks = _grouped([tensor for tensor in tensors if block_of(tensor.name)], lambda tensor: block_of(tensor.name))
    return "layers" if blocks and all(_size(block) <= limit for block in blocks) else "balanced"


def _grouped(tensors: Iterable[TensorInfo], key: Callable[[TensorInfo], Hashable]) -> Shards:
    groups: dict[Hashable, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return list(groups.values())


def _packed(groups: Shards, limit: int) -> Shards:
    """Groups in order, as many to a shard as fit; one that fits into none becomes shards of its own."""
    shards: Shards = [[]]
    filled = 0
    for group in groups:
        size = _size(group)
        if size > limit and len(group) > 1:
            shards += [*_packed([[tensor] for tensor in group], limit), []]
            filled = 0
            continue
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1] += group
        filled += size
    return [shard for shard in shards if shard] or [[]]


def _spread(tensors: Iterable[TensorInfo], count: int) -> Shards:
    shards: Shards = [[] for _ in range(count)]
    least = [(0, number) for number in range(count)]
    for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
        filled, number = least[0]
        shards[number].append(tensor)
        heapq.heapreplace(least, (filled + tensor.size, number))
    return shards


def _size(tensors: Iterable[TensorInfo]) -> int:
    return sum(tensor.size for tensor in tensors)
