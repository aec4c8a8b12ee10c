"""Writes the checkpoints beside it, and what torch itself says is in them; run by hand with torch 2.13.

Each listing holds, for every storage in the order of the pickle: the name of its first tensor, the dtype, the shape as
it lies in memory, the content in hexadecimal.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SHORT = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.qint8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.complex128: "C128",
    torch.float8_e8m0fnu: "BYTES",
}


def write(name: str, value: Any, named: dict[str, torch.Tensor], **options: Any) -> None:
    torch.save(value, HERE / f"{name}.pt", **options)
    listing, seen = [], set()
    for path, tensor in named.items():
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            content = bytes(storage.tolist())
            listing.append([path, SHORT[tensor.dtype], shape_in_memory(tensor), content.hex()])
    (HERE / f"{name}.json").write_text(json.dumps(listing, indent=0) + "\n")


def shape_in_memory(tensor: torch.Tensor) -> list[int]:
    if tensor.numel() * tensor.element_size() != tensor.untyped_storage().nbytes():
        return [tensor.untyped_storage().nbytes() // tensor.element_size()]
    order = sorted(range(tensor.dim()), key=lambda dim: -tensor.stride(dim))
    return list(tensor.permute(order).shape)


def prefixed(prefix: str, tensors: dict[Any, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{key}": tensor for key, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def state_dict() -> OrderedDict[str, torch.Tensor]:
    """Every element type, a tied tensor, views, a transposed one, a scalar, an empty one."""
    weight = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = OrderedDict([("embed.weight", weight), ("head.weight", weight), ("head.column", weight[:, 1])])
    tensors["part"] = torch.arange(10, dtype=torch.int32)[2:6]
    tensors["turned"] = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4).t()
    for dtype in SHORT:
        if dtype is not torch.qint8:
            tensors[str(dtype).replace("torch", "types")] = torch.ones(2, 3).to(dtype)
    tensors["step"] = torch.tensor(7)
    tensors["nothing"] = torch.empty(0, 5)
    return tensors


torch.manual_seed(0)
write("state_dict", state_dict(), state_dict())

module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
module(torch.randn(5, 3)).sum().backward()
optimizer.step()
of_optimizer = {
    k: v for i, state in optimizer.state_dict()["state"].items() for k, v in prefixed(f"state.{i}", state).items()
}
random_state = torch.get_rng_state()[:16].clone()
write("module_state_dict", module.state_dict(), module.state_dict())
write("module", module, module.state_dict())
write(
    "checkpoint",
    {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": {"lr": 1e-3, "betas": (0.9, 0.99), "name": None},
        "rng": [random_state],
    },
    {**prefixed("model", module.state_dict()), **prefixed("optimizer", of_optimizer), "rng.0": random_state},
)

parameter = torch.nn.Parameter(torch.ones(2, 2))
sparse = torch.ones(3).to_sparse()
quantised = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
named = {"0": parameter, "1.1.0": sparse.indices(), "1.1.1": sparse.values(), "2": quantised}
write("odd_kinds", [parameter, sparse, quantised], named)
for protocol in (3, 4, 5):
    three = {"a": torch.ones(3, 3)}
    write(f"protocol_{protocol}", three, three, pickle_protocol=protocol)
