"""What one rank writes: its boxes of tensors and its values, as one safetensors file and the places in it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from shardflow.flavor.checkpointing.errors import StateUnusable
from shardflow.flavor.checkpointing.trees import Flat, flatten
from shardflow.flavor.contents import TensorContent
from shardflow.flavor.dcp.errors import PlanUnusable
from shardflow.flavor.dcp.layout import Value
from shardflow.flavor.header import NOT_A_TENSOR
from shardflow.flavor.plans import Plan, Shard
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.tensors import TensorInfo, without_ties
from shardflow.flavor.torch_types import shapes_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box of a tensor was put."""

    file: str
    name: str


@dataclass(slots=True)
class RankFile:
    """The file of one rank, not written yet."""

    name: str
    trust: bool
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    results: list[WriteResult] = field(default_factory=list)

    def take(self, items: Iterable[WriteItem], planner: SavePlanner) -> None:
        """Everything that a plan has for this rank; tensors are not copied."""
        for item in items:
            if item.type is WriteItemType.BYTE_IO:
                self._take_value(item, planner)
            else:
                self._take_tensor(item, planner)

    def source(self, directory: str) -> ShardSource | None:
        """The file, for a store to read; None if this rank has no tensors."""
        if not self.tensors:
            return None
        infos, aliases = without_ties(self._infos())
        self._point_to(aliases)
        plan = Plan("rank", (Shard(self.name, tuple(infos)),), {})
        contents = {info.name: TensorContent.of(info.name, self.tensors[info.name]) for info in infos}
        (source,) = shard_sources(plan, contents, directory)
        return source

    def _infos(self) -> Iterator[TensorInfo]:
        """The tensors; one inside of a value has no ties, since the value's tree says under which name it is."""
        placed = {result.storage_data.name for result in self.results if isinstance(result.storage_data, Place)}
        for info in shapes_of(self.tensors):
            yield info if info.name in placed else dataclasses.replace(info, identity=None)

    def _take_tensor(self, item: WriteItem, planner: SavePlanner) -> None:
        tensor: Any = planner.resolve_data(item)
        wanted = item.tensor_data
        if wanted is None or not isinstance(tensor, torch.Tensor) or tensor.shape != wanted.chunk.sizes:
            raise PlanUnusable(
                f"the planner has another {item.index.fqn} than it announced", remedy="see to the planner"
            )
        whole = wanted.size == wanted.chunk.sizes
        box = "" if whole else f"[{','.join(str(offset) for offset in wanted.chunk.offsets)}]"
        name = self._kept(item.index.fqn + box, tensor.detach())
        self._wrote(item.index, tensor.nbytes, Place(self.name, name))

    def _take_value(self, item: WriteItem, planner: SavePlanner) -> None:
        fqn = item.index.fqn
        try:
            flat, pickled = flatten(_looked_up(item.index, planner), path=(fqn,), taken=self.tensors), False
        except StateUnusable as error:
            if not self.trust:
                raise StateUnusable(error.message, remedy="leave it out, or pass trust=True to pickle it") from None
            flat, pickled = self._pickled(fqn, planner.resolve_data(item)), True
        self.tensors |= flat.tensors
        value = Value(flat.tree, self.name if flat.tensors else "", pickled)
        self._wrote(item.index, flat.size, value)

    def _pickled(self, fqn: str, data: Any) -> Flat:
        pickle = data.getvalue() if isinstance(data, io.BytesIO) else bytes(data)
        return flatten(pickle, path=(fqn,), taken=self.tensors)

    def _kept(self, wanted: str, tensor: torch.Tensor) -> str:
        name, number = wanted, 1
        while name in self.tensors or name == NOT_A_TENSOR:
            number += 1
            name = f"{wanted}~{number}"
        self.tensors[name] = tensor
        return name

    def _wrote(self, index: MetadataIndex, size: int, place: Place | Value) -> None:
        self.results.append(WriteResult(index, size, place))

    def _point_to(self, aliases: dict[str, str]) -> None:
        """Names of one tensor lead to where it is stored."""
        for number, result in enumerate(self.results):
            place = result.storage_data
            if isinstance(place, Place) and place.name in aliases:
                self.results[number] = WriteResult(
                    result.index, result.size_in_bytes, Place(place.file, aliases[place.name])
                )


def _looked_up(index: MetadataIndex, planner: SavePlanner) -> Any:
    """The planners of torch pickle a value when it is resolved; what it is before that needs no pickle."""
    look_up = getattr(planner, "lookup_object", None)
    if look_up is None:
        raise StateUnusable(f"{index.fqn} only exists as what {type(planner).__name__} makes of it")
    return look_up(index)
