"""Torch's description of a checkpoint from ours, and ours from torch's and what the ranks wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import WriteResult

from shardflow.flavor.checkpointing.errors import CheckpointDamaged, StateUnusable
from shardflow.flavor.checkpointing.trees import flatten, unflatten
from shardflow.flavor.dcp.errors import PlanUnusable
from shardflow.flavor.dcp.items import Place
from shardflow.flavor.dcp.layout import Checkpoint, Chunk, Tensor, Value
from shardflow.flavor.recipe import StoredFile

Places = Mapping[MetadataIndex, Place | Value]


def places_of(results: Sequence[Sequence[WriteResult]]) -> dict[MetadataIndex, Place | Value]:
    """Where everything is, as the ranks told."""
    return {result.index: result.storage_data for of_rank in results for result in of_rank}


def described(metadata: Metadata, places: Places, directory: str, files: tuple[StoredFile, ...]) -> Checkpoint:
    """A checkpoint as it is stored."""
    tensors, values = {}, {}
    for fqn, each in metadata.state_dict_metadata.items():
        if isinstance(each, TensorStorageMetadata):
            tensors[fqn] = _tensor(fqn, each, places)
        else:
            value = places.get(MetadataIndex(fqn))
            if not isinstance(value, Value):
                raise PlanUnusable(f"no rank wrote {fqn}", remedy="see to the planner")
            values[fqn] = value
    planner = None if metadata.planner_data is None else _planner(metadata.planner_data)
    return Checkpoint(directory=directory, files=files, tensors=tensors, values=values, planner=planner)


def as_metadata(checkpoint: Checkpoint, name: str) -> Metadata:
    """The same as torch's planners want it."""
    known: dict[str, Any] = {fqn: _stored_tensor(fqn, tensor, name) for fqn, tensor in checkpoint.tensors.items()}
    known |= {fqn: BytesStorageMetadata() for fqn in checkpoint.values}
    places: dict[MetadataIndex, Place | Value] = {MetadataIndex(fqn): value for fqn, value in checkpoint.values.items()}
    for fqn, tensor in checkpoint.tensors.items():
        for chunk in tensor.chunks:
            places[MetadataIndex(fqn, chunk.offsets)] = Place(chunk.file, chunk.name)
    planner = None if checkpoint.planner is None else unflatten(checkpoint.planner, {}, name)
    return Metadata(known, planner_data=planner, storage_data=places)


def _tensor(fqn: str, metadata: TensorStorageMetadata, places: Places) -> Tensor:
    chunks = []
    for box in metadata.chunks:
        place = places.get(MetadataIndex(fqn, box.offsets))
        if not isinstance(place, Place):
            raise PlanUnusable(f"no rank wrote {fqn} from {list(box.offsets)}", remedy="see to the planner")
        chunks.append(Chunk(tuple(box.offsets), tuple(box.sizes), place.file, place.name))
    properties = metadata.properties
    dtype = str(properties.dtype).removeprefix("torch.")
    return Tensor(dtype, tuple(metadata.size), tuple(chunks), properties.requires_grad)


def _stored_tensor(fqn: str, tensor: Tensor, name: str) -> TensorStorageMetadata:
    dtype = getattr(torch, tensor.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointDamaged(f"{name}: {fqn} is of type {tensor.dtype!r:.40}, which torch does not have")
    boxes = [ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes)) for chunk in tensor.chunks]
    properties = TensorProperties(dtype, requires_grad=tensor.requires_grad)
    return TensorStorageMetadata(properties, torch.Size(tensor.size), boxes)


def _planner(data: Any) -> Any:
    try:
        flat = flatten(data, "what the planner notes")
    except StateUnusable as error:
        raise PlanUnusable(error.message, remedy="use a planner that notes names and numbers") from None
    if flat.tensors:
        raise PlanUnusable("the planner notes tensors", remedy="use a planner that notes names and numbers")
    return flat.tree
