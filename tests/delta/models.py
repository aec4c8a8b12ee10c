"""Small models as files, and what becomes of them: trained, cast, grown, renamed, merged with an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from codec.adapters import as_values, as_words
from shardflow.dtype import DType
from shardflow.layout import Layout, ReadAt, inspect

Values = npt.NDArray[np.float32]
Model = dict[str, Values]

SHAPES = {
    "embedding.weight": (2000, 128),
    **{f"layers.{n}.attention.weight": (192, 192) for n in range(3)},
    **{f"layers.{n}.mlp.weight": (256, 128) for n in range(3)},
    **{f"layers.{n}.norm.weight": (128,) for n in range(3)},
    "head.weight": (2000, 128),
}
_NAMES = {DType.F32: "F32", DType.F16: "F16", DType.BF16: "BF16", DType.F64: "F64"}


def model(seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    return {name: (rng.standard_normal(shape) * 0.04).astype("<f4") for name, shape in SHAPES.items()}


def trained(before: Model, rate: float = 2e-5, seed: int = 101) -> Model:
    rng = np.random.default_rng(seed)
    return {name: values + (rng.standard_normal(values.shape) * rate).astype("<f4") for name, values in before.items()}


def as_file(values: Model, dtype: DType = DType.F32) -> bytes:
    """The model as safetensors; by name, as the library itself orders what is of one type."""
    if dtype is DType.F32:
        return save(values)
    header, start, data = {}, 0, []
    for name, each in sorted(values.items()):
        words = as_words(each, dtype).tobytes()
        header[name] = {"dtype": _NAMES[dtype], "shape": each.shape, "data_offsets": [start, start + len(words)]}
        start += len(words)
        data.append(words)
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed + b"".join(data)


def rounded(values: Model, dtype: DType) -> Model:
    """What the numbers are after they were stored as a narrower type."""
    return {
        name: as_values(as_words(each.ravel(), dtype), dtype).reshape(each.shape).copy()
        for name, each in values.items()
    }


def adapter(rank: int = 4, strength: float = 1.0, seed: int = 5) -> dict[str, tuple[Values, Values]]:
    """The two sides for each attention matrix."""
    rng = np.random.default_rng(seed)
    sides = {}
    for name, shape in SHAPES.items():
        if "attention" in name:
            a = (rng.standard_normal((rank, shape[1])) * 0.03).astype("<f4")
            sides[name] = a, (rng.standard_normal((shape[0], rank)) * 0.03 * strength).astype("<f4")
    return sides


def merged(before: Model, sides: dict[str, tuple[Values, Values]], scale: float = 2.0) -> Model:
    return {
        name: values + np.float32(scale) * (sides[name][1] @ sides[name][0]) if name in sides else values
        for name, values in before.items()
    }


def save_adapter(directory: Path, sides: dict[str, tuple[Values, Values]], **config: object) -> Path:
    """As peft saves it: scale is lora_alpha / r."""
    directory.mkdir(exist_ok=True)
    tensors = {}
    for name, (a, b) in sides.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": np.ascontiguousarray(b)}
    (directory / "adapter_model.safetensors").write_bytes(save(tensors))
    rank = len(next(iter(sides.values()))[0])
    (directory / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 2 * rank, **config}))
    return directory


def reading(file: bytes) -> ReadAt:
    return lambda offset, length: file[offset : offset + length]


def laid_out(file: bytes) -> Layout:
    return inspect(reading(file), len(file))
