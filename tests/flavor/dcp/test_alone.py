"""What does not depend on how many ranks there are, tried with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardflow.flavor.dcp
from shardflow.errors import ShardflowError
from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.errors import CheckpointDamaged, StateUnusable
from shardflow.flavor.dcp import Reader, Writer
from shardflow.flavor.dcp.errors import CheckpointMissing, PlanUnusable
from shardflow.flavor.dcp.places import read_checkpoint
from shardflow.flavor.errors import TrustRequired
from shardflow.store.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated"),
]


class Odd:
    """What JSON has nothing for."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def url(store: Store) -> str:
    return f"{store.url}/run/step-1"


def failure(work: Callable[[], Any]) -> ShardflowError:
    """The error of ours that torch wraps."""
    with pytest.raises(CheckpointException) as caught:
        work()
    (found,) = [error for error, _ in caught.value.failures.values()]
    assert isinstance(found, ShardflowError | AssertionError), found
    return found  # type: ignore[return-value]


def save(state: dict[str, Any], url: str, **arguments: Any) -> None:
    dcp.save(state, storage_writer=Writer(url, **arguments))


def load(state: dict[str, Any], url: str, **arguments: Any) -> dict[str, Any]:
    dcp.load(state, storage_reader=Reader(url, **arguments))
    return state


def weights(seed: int = 0, rows: int = 1024) -> torch.Tensor:
    return torch.randn(rows, 256, generator=torch.Generator().manual_seed(seed)).bfloat16()


def test_values_of_all_kinds_come_back_without_a_pickle(url: str, store: Store) -> None:
    values = {
        "lr": 0.1,
        "name": "adam",
        "betas": (0.9, 0.999),
        "none": None,
        "table": np.arange(3.0),
        "blob": bytes(10_000),
        "groups": [{"params": [0, 1], "lr": 1e-3}],
        "mixed": [torch.arange(3), {"a": torch.ones(2)}],
    }
    save(values, url)
    assert all(not value.pickled for value in read_checkpoint(store, "run/step-1").values.values())
    empty: dict[str, Any] = {
        "groups": [{"params": None, "lr": 0}],
        "mixed": [torch.zeros(3).long(), {"a": torch.zeros(2)}],
    }
    found = load(dict.fromkeys(values) | empty, url)
    assert {name: found[name] for name in ("lr", "name", "betas", "none", "blob", "groups")} == {
        name: values[name] for name in ("lr", "name", "betas", "none", "blob", "groups")
    }
    assert np.array_equal(found["table"], values["table"])  # type: ignore[arg-type]
    assert torch.equal(found["mixed"][0], torch.arange(3))
    assert torch.equal(found["mixed"][1]["a"], torch.ones(2))


def test_a_value_that_only_a_pickle_holds_needs_the_trust_of_both_sides(url: str) -> None:
    error = failure(lambda: save({"odd": Odd()}, url))
    assert isinstance(error, StateUnusable)
    assert "odd is a " in error.message
    assert "trust=True" in error.remedy
    save({"odd": Odd(), "lr": 1}, url, trust=True)
    assert isinstance(failure(lambda: load({"odd": None, "lr": 0}, url)), TrustRequired)
    assert load({"odd": None, "lr": 0}, url, trust=True) == {"odd": Odd(), "lr": 1}


def test_all_of_a_checkpoint_is_loaded_without_knowing_what_is_in_it(url: str) -> None:
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    save({"model": {"weight": weights()}, "epochs": [1, {"two": 3}]}, url)
    found: dict[str, Any] = {}
    _load_state_dict(found, storage_reader=Reader(url), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    assert torch.equal(found["model"]["weight"], weights())
    assert found["epochs"] == [1, {"two": 3}]


def test_a_checkpoint_is_coded_against_the_one_that_is_named_or_found(store: Store) -> None:
    first = weights(rows=2048)
    moved = torch.rand(first.shape) < 0.05
    second = torch.where(moved, first * 1.01, first)
    third = torch.where(moved, second * 1.01, second)

    def sent(writer: Writer, tensor: torch.Tensor) -> float:
        dcp.save({"weight": tensor}, storage_writer=writer)
        return writer.progress.totals.bytes_sent / tensor.nbytes

    assert sent(Writer(f"{store.url}/a/step-9"), first) > 0.6
    assert sent(Writer(f"{store.url}/a/step-10"), second) < 0.12  # the one before by number
    assert sent(Writer(f"{store.url}/b/named", base=f"{store.url}/a/step-10"), third) < 0.12
    one = Writer(f"{store.url}/c/first")
    assert sent(one, weights(5, rows=2048)) > 0.6
    one.reset(f"{store.url}/c/second")
    assert sent(one, torch.where(moved, weights(5, rows=2048) * 1.01, weights(5, rows=2048))) < 0.12  # its own
    assert torch.equal(load({"weight": torch.zeros_like(third)}, f"{store.url}/b/named")["weight"], third)


def test_a_checkpoint_may_take_the_place_of_another(url: str, store: Store) -> None:
    for seed in range(3):
        save({"weight": weights(seed)}, url)
        assert torch.equal(load({"weight": torch.zeros_like(weights())}, url)["weight"], weights(seed))
    described, directory = read_checkpoint(store, "run/step-1"), "run/step-1"
    assert files.below(store, directory) == {
        f"{directory}/dcp.json",
        f"{directory}/{described.directory}/rank-00000.safetensors",
    }


def test_a_checkpoint_that_was_not_finished_leaves_the_one_before_it_at_the_same_place(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save({"weight": weights(0)}, url)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "finish", _full)
        with pytest.raises(CheckpointException):
            save({"weight": weights(1)}, url)
    assert torch.equal(load({"weight": torch.zeros_like(weights())}, url)["weight"], weights(0))
    save({"weight": weights(2)}, url)
    assert torch.equal(load({"weight": torch.zeros_like(weights())}, url)["weight"], weights(2))
    assert len(files.below(store, "run/step-1")) == 2, "what was not finished is left behind"


def test_two_jobs_that_save_to_one_place_at_once_do_not_mix(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins and ends while the first has written its files and not made them count yet."""
    finish = Writer.finish

    def late(self: Writer, metadata: Any, results: Any) -> None:
        monkeypatch.setattr(Writer, "finish", finish)
        save({"weight": weights(2), "bias": torch.ones(3)}, url)
        assert load({"bias": torch.zeros(3)}, url)["bias"].all()
        finish(self, metadata, results)

    monkeypatch.setattr(Writer, "finish", late)
    save({"weight": weights(1)}, url)
    assert torch.equal(load({"weight": torch.zeros_like(weights())}, url)["weight"], weights(1))
    assert {path.rpartition("/")[2] for path in files.below(store, "run/step-1")} == {
        "dcp.json",
        "rank-00000.safetensors",
    }
    assert len(files.below(store, "run/step-1")) == 2


def _full(*_: Any, **__: Any) -> None:
    raise OSError("disk full")


def test_a_store_is_made_above_numbered_checkpoints(tmp_path: Any) -> None:
    place = tmp_path.resolve()
    save({"a": 1}, f"{place}/runs/step-1")
    save({"a": 1}, f"{place}/model")
    assert (place / "runs" / "shardflow.json").is_file()
    assert (place / "model" / "shardflow.json").is_file()
    assert load({"a": 0}, f"{place}/runs/step-1") == {"a": 1}


def test_tensors_of_other_layouts_types_and_shapes_come_back(url: str) -> None:
    state = {
        "turned": torch.arange(12.0).reshape(3, 4).T,
        "scalar": torch.tensor(3),
        "nothing": torch.empty(0, 4),
        "bits": torch.tensor([True, False]),
        "a[0]": torch.ones(1),
    }
    state["again"] = state["turned"]
    save(state, url)
    found = load({name: torch.zeros_like(tensor) for name, tensor in state.items()}, url)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    wider = load({"scalar": torch.tensor(0.0, dtype=torch.float64)}, url)
    assert wider["scalar"] == 3.0


def test_a_tensor_inside_of_values_that_is_also_elsewhere_comes_back_everywhere(url: str) -> None:
    """As the betas of an optimizer, which all of its groups share."""
    shared = torch.arange(3.0)
    save({"w": shared, "first": (shared, 1), "second": (shared, shared)}, url)
    nothing = torch.zeros(3)
    found = load({"w": torch.zeros(3), "first": (nothing, 0), "second": (nothing, nothing)}, url)
    tensors = [found["w"], found["first"][0], *found["second"]]
    assert all(torch.equal(tensor, shared) for tensor in tensors)


def test_what_safetensors_has_no_type_for_is_named(url: str) -> None:
    error = failure(lambda: save({"wide": torch.ones(2, dtype=torch.complex128)}, url))
    assert "wide has elements of type torch.complex128" in str(error)


def test_shapes_that_do_not_fit_are_told_by_name(url: str) -> None:
    save({"weight": weights()}, url)
    with pytest.raises(CheckpointException, match="weight"):
        load({"weight": torch.zeros(3, 3)}, url)
    with pytest.raises(CheckpointException, match="other"):
        load({"other": torch.zeros(3, 3)}, url)


def test_a_place_without_a_checkpoint_says_so(url: str) -> None:
    assert "is no checkpoint, or was not finished" in str(failure(lambda: load({"a": 1}, url)))
    with pytest.raises(CheckpointMissing):
        Reader(url).read_metadata()


def test_a_save_without_collectives_is_refused(url: str) -> None:
    with pytest.raises(PlanUnusable, match="use_collectives=True"):
        Writer(url).set_up_storage_writer(True, rank=0, use_collectives=False)


def test_urls_of_stores_are_known_as_places_of_checkpoints() -> None:
    assert Writer.validate_checkpoint_id("shardflow://s3/bucket/x")
    assert Reader.validate_checkpoint_id("shardflow://s3/bucket/x")
    assert not Reader.validate_checkpoint_id("s3://bucket/x")
    assert shardflow.flavor.dcp.Writer is Writer


def test_a_file_that_was_replaced_is_not_read(url: str, store: Store) -> None:
    save({"weight": weights()}, url)
    files.put_text(store, "run/step-1/rank-00000.safetensors", bytes(100))
    error = failure(lambda: load({"weight": torch.zeros_like(weights())}, url))
    assert isinstance(error, CheckpointDamaged)
    assert "has another rank-00000.safetensors, which has weight, than was saved" in error.message


def test_metadata_that_was_tampered_with_is_refused(url: str, store: Store) -> None:
    save({"weight": weights(), "lr": 1.0}, url)
    good = files.read_small(store, "run/step-1/dcp.json")
    for old, new in [
        (b'"format":1', b'"format":7'),
        (b"rank-00000", b"../x/../00"),
        (b'"bfloat16"', b'"load"'),
        (b"[1024,256]", b"[1024,-1]"),
        (b'"size":[1024,256]', b'"size":[10,256]'),
        (b'"tree":1.0', b'"tree":{"x":1}'),
        (good, b"\x80\x04K\x01."),
    ]:
        assert old in good
        files.put_text(store, "run/step-1/dcp.json", good.replace(old, new))
        with pytest.raises(BaseException) as caught:  # noqa: PT011  # told by torch in one of two ways
            load({"weight": torch.zeros_like(weights()), "lr": 0.0}, url)
        assert isinstance(caught.value, CheckpointException | ShardflowError), new
    files.put_text(store, "run/step-1/dcp.json", good)
    assert load({"weight": torch.zeros_like(weights()), "lr": 0.0}, url)["lr"] == 1.0
