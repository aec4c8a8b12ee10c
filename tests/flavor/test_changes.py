"""What became of each tensor of a model, told from its chunks: nothing is guessed, and little is read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from flavor.conftest import SMALL
from shardflow.flavor import changes as module
from shardflow.flavor.changes import SHARED, Changes, changes_between
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.weights import Sharding, weights_of
from shardflow.flavor.writing import into_store
from shardflow.store.config import Settings
from shardflow.store.reader import Reader
from shardflow.store.store import Store

Tensors = Mapping[str, torch.Tensor]


def model() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    large = {f"blocks.{number}.weight": torch.randn(400, 100) for number in range(4)}
    small = {f"blocks.{number}.bias": torch.randn(100) for number in range(4)}
    return {**large, **small, "empty": torch.zeros(0, 4)}


def put(store: Store, path: str, tensors: Tensors, base: str | None = None, **sharding: int | str) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        weights = weights_of(tensors, Sharding(**sharding), stack)  # type: ignore[arg-type]
        into_store(weights, str(store.url.joined(path)), str(store.url.joined(base)) if base else None)


def compared(store: Store, before: str, after: str) -> Changes:
    return changes_between(StoreFolder(store, before), StoreFolder(store, after))


def counts(found: Changes) -> dict[str, int]:
    return {status: amount.count for status, amount in found.tensors.items()}


def test_a_model_beside_itself_has_nothing_changed(store: Store) -> None:
    put(store, "a", model())
    found = compared(store, "a", "a")
    assert counts(found) == {"unchanged": 9, "changed": 0, "new": 0, "gone": 0}
    assert found.chunks.keys() == {SHARED}
    assert (found.changed, found.kinds) == ((), "none")


def test_a_changed_a_new_and_a_lost_tensor_are_told_apart(store: Store) -> None:
    tensors = model()
    put(store, "a", tensors)
    tensors["blocks.1.weight"] = tensors["blocks.1.weight"] + 0.001
    tensors["head"] = torch.randn(10, 100)
    del tensors["blocks.3.weight"]
    put(store, "b", tensors, base="a")
    found = compared(store, "a", "b")
    assert counts(found) == {"unchanged": 7, "changed": 1, "new": 1, "gone": 1}
    assert {status: amount.size for status, amount in found.tensors.items() if amount.count == 1} == {
        "changed": 160_000,
        "new": 4000,
        "gone": 160_000,
    }
    assert found.changed == ("blocks.1.weight",)
    assert found.kinds in {"delta", "lowrank", "delta, lowrank", "lowrank, delta"}


def test_of_small_tensors_in_one_chunk_only_the_changed_one_is_told(store: Store) -> None:
    tensors = model()
    put(store, "a", tensors)
    tensors["blocks.2.bias"] = tensors["blocks.2.bias"] + 1
    put(store, "b", tensors)
    assert compared(store, "a", "b").changed == ("blocks.2.bias",)


def test_another_division_into_files_changes_no_tensor(store: Store) -> None:
    put(store, "a", model())
    put(store, "b", model(), method="balanced", max_shard_bytes=200_000)
    assert counts(compared(store, "a", "b")) == {"unchanged": 9, "changed": 0, "new": 0, "gone": 0}


def test_another_type_or_shape_is_a_change(store: Store) -> None:
    tensors = model()
    put(store, "a", tensors)
    tensors["blocks.0.weight"] = tensors["blocks.0.weight"].bfloat16()
    tensors["empty"] = torch.zeros(0, 5)
    put(store, "b", tensors)
    assert compared(store, "a", "b").changed == ("blocks.0.weight", "empty")


def test_a_tensor_that_is_tied_now_is_not_gone(store: Store) -> None:
    tensors = model()
    tensors["head"] = tensors["blocks.0.weight"].clone()
    put(store, "a", tensors)
    tensors["head"] = tensors["blocks.0.weight"]
    put(store, "b", tensors)
    assert counts(compared(store, "a", "b")) == {"unchanged": 9, "changed": 0, "new": 0, "gone": 0}
    assert counts(compared(store, "b", "a")) == {"unchanged": 10, "changed": 0, "new": 0, "gone": 0}


def test_models_that_fit_into_their_manifests_are_compared(store: Store) -> None:
    put(store, "a", {"w": torch.zeros(4), "b": torch.zeros(2)})
    put(store, "b", {"w": torch.zeros(4), "b": torch.ones(2)})
    assert compared(store, "a", "b").changed == ("b",)


def test_large_tensors_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = model()
    put(store, "a", tensors)
    put(store, "b", {name: tensor + 1 for name, tensor in tensors.items()})
    read = 0
    plain = Reader.read_at

    def counted(self: Reader, offset: int, length: int) -> bytes:
        nonlocal read
        read += length
        return plain(self, offset, length)

    monkeypatch.setattr(Reader, "read_at", counted)
    assert counts(compared(store, "a", "b"))["changed"] == 8
    assert read < 10_000


def test_what_is_cut_otherwise_is_read_and_too_much_of_it_is_said_not_to_be_compared(
    store: Store, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = Settings(pack_bytes=256 << 10, chunk_bytes=128 << 10, cutting=SMALL.cutting)
    other = Store.init(str(tmp_path_factory.mktemp("other").resolve() / "store"), coarse)
    put(store, "a", model())
    put(other, "b", model())
    folders = StoreFolder(store, "a"), StoreFolder(other, "b")
    assert counts(changes_between(*folders))["unchanged"] == 9
    monkeypatch.setattr(module, "MOST_READ", 170_000)
    found = changes_between(*folders)
    assert counts(found) == {"unchanged": 6, "changed": 0, "new": 0, "gone": 0, "not compared": 3}
