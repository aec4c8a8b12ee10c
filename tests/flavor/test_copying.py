"""The bytes of a tensor are found in place, whatever its strides are."""

from __future__ import annotations

import pytest
import torch

from shardflow.flavor.copying import as_memory

SINGLE = {
    "spread": torch.tensor(5.0).expand(1),
    "every tenth": torch.arange(10.0)[::10],
    "turned": torch.arange(24.0).view(4, 6).T[1:2, 1:2],
    "none": torch.empty(0, 3).T,
    "number": torch.tensor(3.0),
}


@pytest.mark.parametrize("tensor", SINGLE.values(), ids=SINGLE.keys())
def test_a_single_element_is_found_by_any_stride(tensor: torch.Tensor) -> None:
    assert tensor.is_contiguous()
    memory = as_memory(tensor)
    assert bytes(memory) == tensor.numpy().tobytes()
    if tensor.numel():
        memory[:] = torch.tensor(7.0).numpy().tobytes()
        assert (tensor == 7).all()
