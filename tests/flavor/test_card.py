"""The card that MLflow's pages show of a model."""

from __future__ import annotations

import re

import mlflow
import pytest
import torch
from blake3 import blake3

import shardflow
from flavor.models import NET, net
from shardflow import flavor
from shardflow.flavor.card import Description, card_of, in_units, resharded
from shardflow.flavor.changes import Amount, Changes
from shardflow.flavor.plans import Plan, Shard
from shardflow.flavor.recipe import StoredFile
from shardflow.flavor.tensors import TensorInfo
from shardflow.flavor.writing import Written

DIGEST = "ab" * 32
PLAN = Plan("one file", (Shard("model.safetensors", (TensorInfo("a", "F32", (2,)),)),), {})


def description(changes: Changes | None = None) -> Description:
    return Description(
        PLAN, Written((StoredFile("model.safetensors", 96, DIGEST),)), "weights", "nothing", None, changes
    )


def text_of(model_id: str) -> str:
    location = mlflow.get_logged_model(model_id).artifact_location
    with shardflow.open(f"{location}/MODEL_CARD.md") as file:
        return bytes(file.read()).decode()


def test_a_card_tells_what_a_model_is_made_of(experiment: str) -> None:
    info = flavor.log_model(
        net(1, tied=True), name="net", factory=NET, factory_arguments={"tied": True}, sharding="layers",
        max_shard_bytes=100_000,
    )  # fmt: skip
    text = text_of(info.model_id)
    assert "| Tensors | 19 of type F32, and 1 more name for some of them |" in text
    assert "| Rebuilt from | `flavor.models:Net` |" in text
    assert re.search(r"\| Chunks by encoding \| \d+ \w+", text)
    assert "Parent" not in text
    assert "What changed" not in text


def test_its_digests_are_those_of_the_files(experiment: str) -> None:
    info = flavor.log_model(net(), name="net", factory=NET, sharding="layers", max_shard_bytes=100_000)
    sums = re.findall(r"^([0-9a-f]{64})  (weights/.+)$", text_of(info.model_id), re.MULTILINE)
    assert len(sums) == 5
    for digest, name in sums:
        with shardflow.open(f"{info.artifact_path}/{name}") as file:
            assert blake3(file.read()).hexdigest() == digest


def test_it_tells_what_changed_from_the_parent(experiment: str) -> None:
    model = net()
    first = flavor.log_model(model, name="net", factory=NET)
    with torch.no_grad():
        model.layers[1].mlp.weight.add_(0.001)
    text = text_of(flavor.log_model(model, name="net", factory=NET, base_model=first.model_uri).model_id)
    assert f"| Parent | `{first.model_uri}` |" in text
    assert "| unchanged | 19 |" in text
    assert "| changed | 1 | 32.8 KB |" in text
    assert "\nChanged: `layers.1.mlp.weight`.\n" in text
    assert re.search(r"\| the same in both \| \d+ \|", text)


def test_it_names_a_few_of_many_changed_tensors() -> None:
    names = [f"layers.{number}.weight" for number in range(40)]
    changes = Changes({"changed": Amount(40, 4000)}, names, {"delta": Amount(40, 4000, 400)})
    text = card_of(description(changes=changes))
    assert "`layers.11.weight`, and 28 more." in text
    assert "| delta: by what differs | 40 | 4.0 KB | 400 B |" in text


def test_a_resharded_model_keeps_what_its_card_said_of_its_making() -> None:
    changes = Changes({"changed": Amount(1, 8)}, ["a"], {})
    before = card_of(description(changes=changes))
    after = resharded(before, Plan("balanced", (), {}), Written(()), "weights")
    assert "| Files | 0, sharded: balanced |" in after
    assert "Changed: `a`." in after
    assert DIGEST in before
    assert DIGEST not in after
    assert resharded("# My own card", PLAN, Written(()), "weights") == "# My own card"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_950, "1.0 MB"), (140_000_000_000, "140.0 GB")],
)
def test_sizes_read_as_people_write_them(size: int, text: str) -> None:
    assert in_units(size) == text
