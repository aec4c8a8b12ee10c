"""Compares a checkpoint with what it was made from, bit by bit and piece by piece."""

from __future__ import annotations

import torch

from shardflow.flavor.copying import as_bytes
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.state import State, piece_limit, pieces


def require_same(wanted: State, found: State, where: str) -> None:
    """Refuse a checkpoint in which a tensor is missing, added, or different in a single bit."""
    names = {*wanted.tensors, *wanted.aliases}
    odd = names ^ {*found.tensors, *found.aliases}
    if odd:
        raise _differs(where, min(odd), "is only in one of them")
    for info in wanted.tensors.values():
        kept = found.aliases.get(info.name, info.name)
        if (found.tensors[kept].dtype, found.tensors[kept].shape) != (info.dtype, info.shape):
            raise _differs(where, info.name, "has another type or shape")
        for box in pieces(info, piece_limit()):
            if not _same(wanted.read(info.name, box), found.read(kept, box)):
                raise _differs(where, info.name, "has other values")


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.equal(_bits(left), _bits(right))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers that are equal may have different bits, and two that are no numbers are never equal."""
    return as_bytes(tensor.contiguous())


def _differs(where: str, name: str, how: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"what was written to {where} is not what was read: tensor {name} {how}",
        remedy="look at the disk and the memory of this machine; the source is as it was",
    )
