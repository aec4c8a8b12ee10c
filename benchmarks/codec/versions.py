"""Tensors of two versions of a model: read from files, rounded to other dtypes, or made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec.rounding import narrowed, widened
from shardflow.dtype import DType
from shardflow.layout import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shardflow.codec.kernels.contract import Words

_DENSE = 64  # smallest side of a matrix that an adapter is merged into


@dataclass(frozen=True, slots=True)
class Tensor:
    """The words of a tensor as a matrix; what has fewer dimensions is one row."""

    dtype: DType
    words: Words

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return widened(self.words.ravel(), self.dtype).view("<f4").reshape(self.words.shape)

    def of_kind(self, dtype: DType) -> Tensor:
        bits = widened(self.words.ravel(), self.dtype)
        return Tensor(dtype, narrowed(bits, dtype).reshape(self.words.shape))


Model = dict[str, Tensor]


def read(path: Path) -> Model:
    """All float tensors of a safetensors file."""
    data = path.read_bytes()
    layout = inspect(lambda offset, length: data[offset : offset + length], len(data))
    model = {}
    for segment in layout.segments:
        if segment.name and segment.dtype.exponent_bits:
            words = np.frombuffer(data[segment.offset :][: segment.length], f"<u{segment.dtype.width}")
            model[segment.name] = Tensor(segment.dtype, words.reshape(*(segment.shape[:1] or (1,)), -1))
    return model


def in_kind(model: Model, dtype: DType) -> Model:
    return {name: tensor.of_kind(dtype) for name, tensor in model.items()}


def made_up() -> Model:
    """Something like a small transformer: an embedding and a few dense layers, normally distributed."""
    rng = np.random.default_rng(0)
    shapes = {"embedding": (8000, 384)} | {f"layer.{n}": (384, 1536) if n % 2 else (1536, 384) for n in range(8)}
    return {
        name: Tensor(DType.F32, (rng.standard_normal(shape) * 0.04).astype("<f4").view("<u4"))
        for name, shape in shapes.items()
    }


def trained(model: Model, rate: float, decay: float = 0.0) -> Model:
    """After a training that moved every weight by about `rate`, but only one in eight rows of an embedding."""
    rng = np.random.default_rng(1)
    after = {}
    for name, tensor in model.items():
        values = tensor.values * np.float32(1 - decay)
        moved = rng.random((len(values), 1)) < (1 / 8 if "embedding" in name else 1)
        values = values + (rng.standard_normal(values.shape) * rate * moved).astype("<f4")
        after[name] = Tensor(DType.F32, values.astype("<f4").view("<u4"))
    return after


def stepped(model: Model, rate: float, steps: int) -> Model:
    """After steps of about `rate`, each rounded to the dtype of the weights, as where there is no copy in float32."""
    rng = np.random.default_rng(2)
    after = {}
    for name, tensor in model.items():
        steady, now = rng.standard_normal(tensor.words.shape).astype("<f4"), tensor
        for _ in range(steps):
            noise = rng.standard_normal(tensor.words.shape).astype("<f4")
            values = now.values + np.float32(rate) * np.clip(noise + 0.3 * steady, -1, 1)
            now = Tensor(DType.F32, values.astype("<f4").view("<u4")).of_kind(tensor.dtype)
        after[name] = now
    return after


def matrices(model: Model) -> Iterator[tuple[str, Tensor]]:
    """What an adapter is merged into."""
    for name, tensor in model.items():
        if min(tensor.words.shape) >= _DENSE and "embedding" not in name:
            yield name, tensor
