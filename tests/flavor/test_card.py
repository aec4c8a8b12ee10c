"""The card that MLflow's pages show of a model."""

from __future__ import annotations

import re

import mlflow
import pytest

import shardflow
from flavor.models import NET, net
from shardflow import flavor
from shardflow.flavor.card import in_units


def test_a_card_tells_what_a_model_is_made_of(experiment: str) -> None:
    first = flavor.log_model(net(), name="net", factory=NET)
    info = flavor.log_model(
        net(1, tied=True), name="net", factory=NET, factory_arguments={"tied": True}, base_model=first.model_uri,
        sharding="layers", max_shard_bytes=100_000,
    )  # fmt: skip
    location = mlflow.get_logged_model(info.model_id).artifact_location
    text = shardflow.open(f"{location}/MODEL_CARD.md").read().decode()
    assert "| Tensors | 19 of type F32, and 1 more name for some of them |" in text
    assert "| Rebuilt from | `flavor.models:make_net` |" in text
    assert f"| Parent | `{first.model_uri}` |" in text
    assert re.search(r"\| Chunks and their bases \| \d+ \w+", text)
    shards = [entry for entry in shardflow.ls(f"{location}/weights") if entry.path.endswith(".safetensors")]
    for entry in shards:
        name = entry.path.rpartition("/")[2]
        (line,) = [line for line in text.splitlines() if name in line]
        assert f"`{entry.digest}`" in line
    assert len(shards) == 4


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_950, "1.0 MB"), (140_000_000_000, "140.0 GB")],
)
def test_sizes_read_as_people_write_them(size: int, text: str) -> None:
    assert in_units(size) == text
