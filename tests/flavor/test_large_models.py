"""One tensor of a model of 10 GiB costs its own bytes, and little to find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from flavor.described import describe
from flavor.models import transformer
from shardflow import flavor
from shardflow.flavor import Rank
from shardflow.flavor.plans import plan
from shardflow.store.config import Settings
from shardflow.store.errors import PackMissing
from shardflow.store.store import Store

GIB, MIB = 1 << 30, 1 << 20
BLOCK = "model.layers.13"
LARGE = f"{BLOCK}.self_attn.k_proj.weight"
SMALL = f"{BLOCK}.post_attention_layernorm.weight"
THERE = (LARGE, f"{BLOCK}.input_layernorm.weight", SMALL)
MODEL = plan(transformer(32, 4096, 11008, 32000, 1024))

Received = Callable[[], int]


@pytest.fixture(scope="module")
def there() -> dict[str, torch.Tensor]:
    """The tensors of the model that are in the store."""
    torch.manual_seed(0)
    infos = [tensor for shard in MODEL.shards for tensor in shard.tensors if tensor.name in THERE]
    return {info.name: torch.randn(info.shape).bfloat16() for info in infos}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, there: Mapping[str, torch.Tensor]) -> Store:
    home = tmp_path_factory.mktemp("large").resolve()
    store = Store.init(str(home / "store"), Settings(inline_bytes=0))  # small files are read as chunks as well
    describe(store, "llama", MODEL, there, home)
    return store


@pytest.fixture
def received(large: Store, monkeypatch: pytest.MonkeyPatch) -> Received:
    """How many bytes have come from the store."""
    before = large.transport.totals.bytes_received
    monkeypatch.setattr(Store, "find", lambda _: (large, "llama"))
    return lambda: large.transport.totals.bytes_received - before


@pytest.fixture
def uri(large: Store) -> str:
    return f"{large.url}/llama"


def stored_bytes(large: Store) -> int:
    """Of all tensors that are there."""
    return int(large.manifest("there").table.stored.sum())


def test_the_model_is_as_large_as_it_says(large: Store) -> None:
    sizes = [entry.size or 0 for entry in large.ls("llama", details=True)]
    assert sum(sizes) > MODEL.size > 10 * GIB


def test_one_tensor_costs_what_is_stored_of_it_and_at_most_a_mebibyte(
    received: Received, uri: str, large: Store, there: Mapping[str, torch.Tensor]
) -> None:
    loaded = flavor.load_state_dict(uri, tensors=LARGE, mapped=False)
    assert torch.equal(loaded[LARGE], there[LARGE])
    assert received() < stored_bytes(large) + MIB


def test_a_small_tensor_costs_less_than_a_mebibyte(
    received: Received, uri: str, there: Mapping[str, torch.Tensor]
) -> None:
    ((name, tensor),) = flavor.iter_tensors(uri, tensors=SMALL)
    assert name == SMALL
    assert torch.equal(tensor, there[SMALL])
    assert received() < MIB


def test_the_part_of_a_rank_costs_its_own_bytes(
    received: Received, uri: str, large: Store, there: Mapping[str, torch.Tensor]
) -> None:
    loaded = flavor.load_state_dict(uri, tensors=LARGE, slices={"*": Rank(1, of=2)}, mapped=False)
    assert torch.equal(loaded[LARGE], there[LARGE][512:])
    assert received() < stored_bytes(large) / 2 + MIB


def test_whoever_reads_more_is_told_that_it_is_not_there(uri: str) -> None:
    with pytest.raises(PackMissing):
        flavor.load_state_dict(uri, tensors=f"{BLOCK}.self_attn.*")
