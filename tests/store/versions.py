"""Small contents that are like each other: runs that come again, and versions of a model that differ a little."""

from __future__ import annotations

from functools import cache

import numpy as np
from safetensors.numpy import save


def alike(seed: int, size: int) -> bytes:
    """Contents that share long runs with each other."""
    base = np.random.default_rng(seed % 2).integers(0, 256, size, dtype=np.uint8)
    base[: size // 8] = seed
    return base.tobytes()


@cache
def version(number: int) -> bytes:
    """A model of 40 KB after so many steps of training, each of which moves every number a little."""
    rng = np.random.default_rng(9)
    model = {name: rng.standard_normal((64, 80)).astype("<f4") for name in ("first.weight", "second.weight")}
    for _ in range(number):
        model = {
            name: values + (rng.standard_normal(values.shape) * 1e-6).astype("<f4") for name, values in model.items()
        }
    return save(model)
