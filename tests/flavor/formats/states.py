"""State dicts with everything in them that a checkpoint has to bring back bit by bit."""

from __future__ import annotations

from math import prod

import torch

from shardflow.flavor.torch_types import TORCH_TYPES


def every_type() -> dict[str, torch.Tensor]:
    """Each element type as a matrix, a scalar and nothing, with all kinds of bit patterns in them."""
    torch.manual_seed(0)
    shapes = {"matrix": (5, 7), "scalar": (), "nothing": (0,), "flat": (3, 0, 2)}
    return {
        f"{name}.{kind}": any_bits(dtype, shape)
        for name, dtype in TORCH_TYPES.items()
        for kind, shape in shapes.items()
    }


def awkward() -> dict[str, torch.Tensor]:
    """Tied, strided, cut out, conjugated, oddly named."""
    torch.manual_seed(1)
    tied = (torch.randn(40, 30) * 0.02).bfloat16()
    return {
        "embed.weight": tied,
        "lm_head.weight": tied,
        "strided": torch.randn(7, 9).T,
        "cut": torch.randn(20, 20)[3:9, 2:18:3],
        "conjugated": torch.randn(4, 4, dtype=torch.complex64).conj(),
        "a/b c%..": torch.zeros(3),
        ".hidden": torch.ones(1),
        "n" * 300: torch.arange(4),
    }


def weights(rows: int = 2500, columns: int = 1001) -> dict[str, torch.Tensor]:
    """Large enough for several chunks, of sizes that do not come out even."""
    torch.manual_seed(2)
    return {
        "half": (torch.randn(rows, columns) * 0.02).half(),
        "brain": (torch.randn(rows, columns) * 0.02).bfloat16(),
        "single": torch.randn(columns, rows // 2),
        "noise": torch.randint(-(1 << 62), 1 << 62, (rows // 4, columns)),
        "long": (torch.randn(rows * columns) * 0.02).bfloat16(),
        "zeros": torch.zeros(300, 300),
    }


def any_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if dtype is torch.bool:
        return torch.randint(0, 2, shape).bool()
    width = torch.empty(0, dtype=dtype).element_size()
    return torch.randint(0, 256, (prod(shape) * width,), dtype=torch.uint8).view(dtype).view(shape)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8)


def differing(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> list[str]:
    """Names whose tensors are not the same, bit by bit."""
    assert left.keys() == right.keys()
    return [
        name
        for name in left
        if left[name].dtype != right[name].dtype
        or left[name].shape != right[name].shape
        or not torch.equal(bits(left[name]), bits(right[name]))
    ]
