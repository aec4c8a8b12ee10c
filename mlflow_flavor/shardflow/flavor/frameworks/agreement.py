"""Whether two models say the same of the same input, within a tolerance that the caller states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shardflow.errors import CorruptData
from shardflow.flavor.modes import in_evaluation

TOLERANCE = 1e-4
Array = npt.NDArray[Any]


class Disagreement(CorruptData):
    """Two models that should be the same give different answers."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What running both came to."""

    outputs: int
    largest_difference: float
    tolerance: float  # of a difference, and of its share of the value


def require_agreement(left: Sequence[Array], right: Sequence[Array], tolerance: float, what: str) -> Agreement:
    """Refuse outputs that differ by more than the tolerance."""
    if len(left) != len(right):
        raise Disagreement(f"{what}: one gives {len(left)} outputs and the other {len(right)}")
    largest = 0.0
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        if one.shape != other.shape:
            raise Disagreement(f"{what}: output {number} is {one.shape} in one and {other.shape} in the other")
        exact, found = one.astype(np.float64), other.astype(np.float64)
        difference = float(np.max(np.abs(exact - found), initial=0.0))
        if not np.allclose(exact, found, rtol=tolerance, atol=tolerance, equal_nan=True):
            raise Disagreement(
                f"{what}: output {number} differs by {difference:.3g}, more than {tolerance:g} allows",
                remedy="look at the names that were mapped, or allow more if the types are coarse",
            )
        largest = max(largest, difference)
    return Agreement(len(left), largest, tolerance)


def outputs_of(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> list[Array]:
    """What a module answers, without dropout and without gradients."""
    with in_evaluation(module), torch.no_grad():
        answer = module(*inputs)
    return [as_numpy(tensor) for tensor in _tensors(answer)]


def as_numpy(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        return np.asarray(plain.float() if plain.dtype is torch.bfloat16 else plain)
    return np.asarray(value)


def _tensors(answer: Any) -> list[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        return [answer]
    values = answer.values() if isinstance(answer, dict) else answer
    return [tensor for value in values if value is not None for tensor in _tensors(value)]
