"""Whom a model was made from: as its logger says or as the store finds out, and what is noted of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from flavor.conftest import SMALL
from flavor.models import NET, Net, net
from shardflow import flavor
from shardflow.flavor import lineage
from shardflow.flavor.changes import BASES_NEEDED
from shardflow.flavor.errors import ModelMissing
from shardflow.store import hints
from shardflow.store.errors import ChunkDamaged
from shardflow.store.store import Store

LARGE: dict[str, Any] = {"name": "net", "factory": NET, "factory_arguments": {"width": 192}}  # files that are hinted


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    caplog.set_level(logging.WARNING, "mlflow.shardflow")
    return caplog


def trained(model: Net) -> Net:
    with torch.no_grad():
        model.layers[1].mlp.weight.mul_(1 + 0.01 * torch.rand_like(model.layers[1].mlp.weight))
    return model


def tags_of(info: Any) -> dict[str, str]:
    return dict(mlflow.get_logged_model(info.model_id).tags)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mlflow.shardflow"]


def test_what_changed_from_the_named_parent_is_on_the_logged_model(experiment: str) -> None:
    model = net(width=192)
    first = flavor.log_model(model, **LARGE)
    second = flavor.log_model(trained(model), base_model=first.model_uri, **LARGE)
    tags, params = tags_of(second), mlflow.get_logged_model(second.model_id).params
    assert tags["shardflow.parent"] == first.model_id
    assert params["shardflow.base_model"] == first.model_uri
    assert params["shardflow.tensors"] == "20"
    assert tags["shardflow.delta"] in BASES_NEEDED
    assert [tags[f"shardflow.tensors_{status}"] for status in ("unchanged", "changed", "new", "gone")] == [
        "19", "1", "0", "0",
    ]  # fmt: skip
    assert tags["shardflow.bytes_changed"] == str(192 * 384 * 4)
    assert int(tags["shardflow.bytes_sent"]) < 192 * 384 * 4


def test_without_a_name_the_model_that_shares_most_is_found(experiment: str) -> None:
    other = flavor.log_model(net(5, width=192), **LARGE)
    model = net(width=192)
    first = flavor.log_model(model, **LARGE)
    with mlflow.start_run() as run:
        second = flavor.log_model(trained(model), **LARGE)
    tags = tags_of(second)
    assert tags["shardflow.found_base"] == first.model_id != other.model_id
    assert "shardflow.parent" not in tags
    assert tags["shardflow.tensors_changed"] == "1"
    assert not mlflow.get_run(run.info.run_id).inputs.model_inputs


def test_the_model_is_found_though_the_new_ones_hint_takes_the_place_of_its_own(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "SLOTS", 1)
    model = net(width=192)
    first = flavor.log_model(model, **LARGE)
    assert tags_of(flavor.log_model(trained(model), **LARGE))["shardflow.found_base"] == first.model_id


def test_of_a_chain_the_last_version_is_found(experiment: str) -> None:
    model = net(width=192)
    for _ in range(3):
        last = flavor.log_model(trained(model), **LARGE)
    found = flavor.log_model(trained(model), **LARGE)
    assert tags_of(found)["shardflow.found_base"] == last.model_id


def test_a_model_that_is_like_no_other_has_no_parent(experiment: str) -> None:
    flavor.log_model(net(5, width=192), **LARGE)
    tags = tags_of(flavor.log_model(net(width=192), **LARGE))
    assert not {"shardflow.parent", "shardflow.found_base", "shardflow.delta"} & tags.keys()


def test_a_base_in_another_store_is_compared_and_warned_of(
    experiment: str, store: Store, tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    model = net(width=192)
    first = flavor.log_model(model, **LARGE)
    far = Store.init(str(tmp_path.resolve() / "far"), SMALL)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"{experiment}-far", artifact_location=f"{far.url}/a"))
    second = flavor.log_model(trained(model), base_model=first.model_uri, **LARGE)
    assert [f"{first.model_uri} is in another store, {store.url}" in message for message in messages(warnings)] == [
        True
    ]
    tags = tags_of(second)
    assert (tags["shardflow.tensors_changed"], tags["shardflow.delta"]) == ("1", "none")
    assert int(tags["shardflow.bytes_sent"]) > 1_000_000


def test_a_base_outside_of_stores_is_warned_of(
    elsewhere: str, store: Store, warnings: pytest.LogCaptureFixture
) -> None:
    first = flavor.log_model(net(), name="net", factory=NET)
    identity = mlflow.create_experiment(f"{elsewhere}-store", artifact_location=f"{store.url}/a")
    mlflow.set_experiment(experiment_id=identity)
    second = flavor.log_model(net(), name="net", factory=NET, base_model=first.model_uri)
    assert [message.startswith(f"{first.model_uri} is not in a store") for message in messages(warnings)] == [True]
    tags = tags_of(second)
    assert tags["shardflow.parent"] == first.model_id
    assert "shardflow.tensors_changed" not in tags


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize("base", ["/no/such/place", "file:///no/such/place", "meta-llama/Llama-3", "nowhere://b/model"])
def test_a_base_that_leads_nowhere_is_refused(base: str) -> None:
    with pytest.raises(ModelMissing, match=base):
        flavor.log_model(net(), name="net", factory=NET, base_model=base)


@pytest.mark.usefixtures("experiment")
def test_a_base_is_named_and_not_passed() -> None:
    first: Any = flavor.log_model(net(), name="net", factory=NET)
    with pytest.raises(ModelMissing, match=r"a ModelInfo is no model URI; .*model_uri"):
        flavor.log_model(net(), name="net", factory=NET, base_model=first)


def test_a_parent_that_can_not_be_compared_leaves_the_model_logged(
    experiment: str, warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = flavor.log_model(net(), name="net", factory=NET)

    def damaged(*_: object) -> None:
        raise ChunkDamaged("a chunk of it is damaged", remedy="run fsck")

    monkeypatch.setattr(lineage, "changes_between", damaged)
    second = flavor.log_model(net(), name="net", factory=NET, base_model=first.model_uri)
    assert messages(warnings) == [f"What changed from {first.model_uri} is not noted: a chunk of it is damaged"]
    assert mlflow.get_logged_model(second.model_id).status == "READY"
    assert tags_of(second)["shardflow.parent"] == first.model_id
