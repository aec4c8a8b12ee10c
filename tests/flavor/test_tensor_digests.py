"""What changed from a parent is noted too where neither model is in a store that the client sees."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from flavor.models import NET, net
from shardflow import flavor
from shardflow.flavor.card import CARD_FILE
from shardflow.flavor.tensor_digests import DIGESTS_FILE
from shardflow.store.store import Store

STATUSES = ("unchanged", "changed", "new", "gone")


def counts(info: Any) -> list[str | None]:
    tags = mlflow.get_logged_model(info.model_id).tags
    return [tags.get(f"shardflow.tensors_{status}") for status in STATUSES]


def artifacts_of(info: Any) -> Path:
    location = str(mlflow.get_logged_model(info.model_id).artifact_location)
    return Path(location.removeprefix("file://"))


def test_tensors_are_told_apart_by_their_digests(elsewhere: str) -> None:
    model = net()
    first = flavor.log_model(model, name="net", factory=NET)
    with torch.no_grad():
        model.layers[1].mlp.weight.add_(0.001)
    second = flavor.log_model(model, name="net", factory=NET, base_model=first.model_uri)
    assert counts(second) == ["19", "1", "0", "0"]
    tags = mlflow.get_logged_model(second.model_id).tags
    assert tags["shardflow.parent"] == first.model_id
    assert tags["shardflow.bytes_changed"] == str(model.layers[1].mlp.weight.nbytes)
    assert "shardflow.delta" not in tags
    card = (artifacts_of(second) / CARD_FILE).read_text()
    assert "\nChanged: `layers.1.mlp.weight`.\n" in card
    assert "| chunks |" not in card
    assert counts(first) == [None] * 4


def test_new_gone_retyped_and_tied_tensors_are_told_apart(elsewhere: str) -> None:
    head = torch.randn(30, 8)
    before = {"embed": head, "head": head.clone(), "norm": torch.ones(8), "old": torch.zeros(0), "type": torch.ones(4)}
    first = flavor.log_model(before, name="net")
    after = {"embed": head, "head": head, "norm": torch.ones(8), "new": torch.ones(2), "type": torch.ones(4).half()}
    second = flavor.log_model(after, name="net", base_model=first.model_uri)
    assert counts(second) == ["2", "1", "1", "1"]


def test_a_parent_without_digests_is_a_parent_all_the_same(elsewhere: str) -> None:
    first = flavor.log_model(net(), name="net", factory=NET)
    (artifacts_of(first) / "weights" / DIGESTS_FILE).unlink()
    second = flavor.log_model(net(), name="net", factory=NET, base_model=first.model_uri)
    assert counts(second) == [None] * 4
    assert mlflow.get_logged_model(second.model_id).tags["shardflow.parent"] == first.model_id


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"tensors": {"a": 5}, "aliases": {}}',
        '{"tensors": [], "aliases": {}}',
        '{"tensors": {}, "aliases": {}, "more": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_digests_that_make_no_sense_are_warned_of(
    content: str, elsewhere: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    first = flavor.log_model({"a": torch.ones(3)}, name="net")
    (artifacts_of(first) / "weights" / DIGESTS_FILE).write_text(content)
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        second = flavor.log_model({"a": torch.ones(3)}, name="net", base_model=first.model_uri)
    assert f"{DIGESTS_FILE} of " in caplog.text
    assert "cannot be understood" in caplog.text
    assert counts(second) == [None] * 4


def test_digests_of_another_format_are_left_alone(elsewhere: str) -> None:
    first = flavor.log_model({"a": torch.ones(3)}, name="net")
    file = artifacts_of(first) / "weights" / DIGESTS_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    assert counts(flavor.log_model({"a": torch.ones(3)}, name="net", base_model=first.model_uri)) == [None] * 4


def test_in_a_store_the_chunks_tell_and_no_digests_are_kept(experiment: str, store: Store, tmp_path: Path) -> None:
    info = flavor.log_model({"a": torch.ones(3)}, name="net")
    path = str(mlflow.get_logged_model(info.model_id).artifact_location).removeprefix(f"{store.url}/")
    assert not [entry for entry in store.ls(path, recursive=True) if entry.path.endswith(DIGESTS_FILE)]
    flavor.save_model({"a": torch.ones(3)}, tmp_path / "saved")
    assert not (tmp_path / "saved" / "weights" / DIGESTS_FILE).exists()
