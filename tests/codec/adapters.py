"""Matrices into which an adapter was merged, as peft merges it, in plain float32 arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardflow.codec.rounding import narrowed, widened
from shardflow.dtype import DType


@dataclass(frozen=True)
class Merge:
    """A matrix before and after, and the adapter: `scale` times `b` times `a` was added."""

    dtype: DType
    rows: int
    base: bytes
    new: bytes
    a: np.ndarray
    b: np.ndarray
    scale: float


def as_words(values: np.ndarray, dtype: DType) -> np.ndarray:
    return narrowed(np.ascontiguousarray(values.astype("<f4")).view("<u4").ravel(), dtype)


def as_values(words: np.ndarray, dtype: DType) -> np.ndarray:
    return widened(words, dtype).view("<f4")


def merge(
    dtype: DType, rows: int, columns: int, rank: int = 4, strength: float = 1.0, seed: int = 0, rounded: bool = False
) -> Merge:
    """With `rounded`, the change is rounded to the matrix's dtype before it is added: peft does either."""
    rng = np.random.default_rng(seed)
    base = as_words(rng.standard_normal((rows, columns)) * 0.04, dtype)
    a = (rng.standard_normal((rank, columns)) * 0.03).astype("<f4")
    b = (rng.standard_normal((rows, rank)) * 0.03 * strength).astype("<f4")
    change = (b @ a * np.float32(2)).ravel()
    if rounded:
        change = as_values(as_words(change, dtype), dtype)
    new = as_words(as_values(base, dtype) + change, dtype)
    return Merge(dtype, rows, base.tobytes(), new.tobytes(), a, b, 2.0)
