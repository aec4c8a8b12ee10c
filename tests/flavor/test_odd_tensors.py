"""State dicts are not always tidy: what can be stored comes back as it was, and what cannot is named before it is."""

from __future__ import annotations

import pytest
import torch

from flavor.divided import equal
from flavor.models import NET, net
from shardflow import flavor
from shardflow.flavor.errors import TensorUnusable
from shardflow.store.store import Store

BASE = torch.arange(6000.0)
ODD = {
    "block.0.view": BASE[:4000],
    "block.0.overlapping": BASE[2000:],
    "block.0.turned": BASE.view(60, 100).t(),
    "block.0.stepped": BASE[::3],
    "block.1.spread": torch.ones(1).expand(50, 40),
    "block.1.empty": torch.empty(0, 8),
    "block.1.nothing": torch.empty(3, 0, 2, dtype=torch.int64),
    "block.1.number": torch.tensor(2.5, dtype=torch.float64),
    "block.2.complex": torch.randn(30, 20, dtype=torch.complex64),
    "block.2.conjugate": torch.randn(30, 20, dtype=torch.complex64).conj(),
    "block.2.flags": torch.tensor([True, False, True]),
    "block.2.halves": torch.randn(64).to(torch.bfloat16),
}


@pytest.mark.parametrize("sharding", ["auto", "layers", "balanced", "attention"])
def test_views_and_empty_and_complex_tensors_come_back(sharding: str, experiment: str) -> None:
    info = flavor.log_model(ODD, name="odd", sharding=sharding, max_shard_bytes=20_000)
    assert equal(info.model_uri, ODD)
    assert flavor.load_state_dict(info.model_uri, tensors="block.1.*").keys() == {
        name for name in ODD if name.startswith("block.1.")
    }


def test_they_come_through_other_files_too(store: Store, experiment: str) -> None:
    info = flavor.log_model(ODD, name="odd")
    assert flavor.reshard(info.model_uri, "balanced", 10_000).changed
    assert equal(info.model_uri, ODD)
    assert flavor.reshard(info.model_uri, "single").changed
    assert equal(info.model_uri, ODD)


def test_an_adapter_without_any_values_is_a_model_too(experiment: str) -> None:
    info = flavor.log_model({"empty": torch.empty(0)}, name="empty")
    assert flavor.load_state_dict(info.model_uri)["empty"].shape == (0,)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.empty(3, device="meta"), "is on the meta device and has no values"),
        (torch.zeros(3, dtype=torch.complex128), "complex128"),
        (torch.eye(3).to_sparse(), "sparse"),
    ],
    ids=["meta", "complex128", "sparse"],
)
def test_a_tensor_that_cannot_be_stored_is_named_and_nothing_is_stored(
    tensor: torch.Tensor, why: str, store: Store, experiment: str
) -> None:
    with pytest.raises(TensorUnusable, match=f"layer.weight .*{why}"):
        flavor.log_model({"fine": torch.ones(2), "layer.weight": tensor}, name="odd")
    assert not list(store.ls())


def test_a_module_that_was_never_filled_is_refused(store: Store, experiment: str) -> None:
    with torch.device("meta"):
        empty = net()
    with pytest.raises(TensorUnusable, match="meta device"):
        flavor.log_model(empty, name="net", factory=NET)
    assert not list(store.ls())
