"""Torch's element types by the names that safetensors gives them, and what a torch tensor must be to be stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from shardflow.flavor.errors import TensorUnusable
from shardflow.flavor.tensors import TensorInfo

TORCH_TYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
STORED_TYPES = {dtype: name for name, dtype in TORCH_TYPES.items()}


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> Iterator[TensorInfo]:
    """What a plan needs of tensors, which may be on the meta device."""
    for name, tensor in tensors.items():
        if tensor.dtype not in STORED_TYPES:
            raise TensorUnusable(
                f"{name} has elements of type {tensor.dtype}, which safetensors has no name for",
                remedy="convert it (a complex128 tensor: store torch.view_as_real of it)",
            )
        yield TensorInfo(name, STORED_TYPES[tensor.dtype], tuple(tensor.shape), _identity(tensor))


def require_values(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that has no values, or none that lie in memory as elements of its type."""
    if tensor.is_meta:
        raise TensorUnusable(
            f"{name} is on the meta device and has no values", remedy="load the weights into the module first"
        )
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_quantized:
        of_layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        kind = "quantized" if tensor.is_quantized else of_layout
        raise TensorUnusable(f"{name} is a {kind} tensor", remedy="store it as dense tensors, such as its parts")


def _identity(tensor: torch.Tensor) -> object:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return None
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001  # on the meta device its data has no address
    return (
        storage,
        tensor.storage_offset(),
        tensor.stride(),
        tensor.dtype,
        tuple(tensor.shape),
        tensor.is_conj(),
        tensor.is_neg(),
    )
