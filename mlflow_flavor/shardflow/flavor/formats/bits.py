"""Tensors as numpy arrays of the same bits and back, for the types that numpy has only through ml_dtypes too."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from shardflow.flavor.torch_types import TORCH_TYPES

NUMPY_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""Element types as numpy, ml_dtypes and zarr call them, by the names of safetensors."""
DTYPES = {name: dtype for dtype, name in NUMPY_NAMES.items()}
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Array = npt.NDArray[Any]


def numpy_type(dtype: str) -> np.dtype[Any]:
    name = NUMPY_NAMES[dtype]
    return np.dtype(getattr(ml_dtypes, name, name))


def as_array(tensor: torch.Tensor, dtype: str) -> Array:
    """A tensor of the CPU as an array, in place."""
    return tensor.detach().view(_WORDS[tensor.element_size()]).numpy().view(numpy_type(dtype))


def as_tensor(array: Array, dtype: str) -> torch.Tensor:
    """An array as a tensor, in place where it can be written and its strides are those of a tensor."""
    plain = array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()
    if plain.dtype.byteorder == ">":
        plain = plain.astype(plain.dtype.newbyteorder("<"))
    words: Array = plain.view(f"i{plain.dtype.itemsize}" if plain.dtype.itemsize > 1 else "u1")
    return torch.from_numpy(words).view(TORCH_TYPES[dtype])
