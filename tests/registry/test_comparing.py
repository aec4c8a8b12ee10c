"""Two registered versions side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from registry.logged import Place, own_place, safetensors
from shardflow.registry.comparing import Pair, compared
from shardflow.registry.references import find
from shardflow.registry.versions import Change


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


def weights(step: float) -> bytes:
    values = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    return safetensors({"frozen": values, "trained": values + np.float32(step)})


def test_two_versions_are_compared_in_all_that_is_known_of_them(here: Place) -> None:
    first = {"MLmodel": b"flavors: {}", "weights/model.safetensors": weights(0), "notes.txt": b"one"}
    second = {"MLmodel": b"flavors: {}", "weights/model.safetensors": weights(0.1)}
    here.register("llama", here.log(first, metrics={"f1": 0.5}, params={"lr": "1", "layers": "2"}))
    parent = {"shardflow.parents": '[{"model": "llama", "version": 1}]'}
    model = here.log(second, metrics={"f1": 0.7, "bleu": 3.0}, params={"lr": "2", "layers": "2"})
    here.register("llama", model, parent)
    found = compared(find("llama/1"), find("llama/2"), here.client)
    assert found.metrics == (Pair("bleu", None, 3.0), Pair("f1", 0.5, 0.7))
    assert [pair for pair in found.parameters if pair.differs] == [Pair("lr", "1", "2")]
    assert [pair.name for pair in found.files] == ["notes.txt", "weights/model.safetensors"]
    assert found.sizes[0] == found.sizes[1] + 3
    assert (found.change, found.distance) == (Change.PATCH, 1)
    assert found.tensors
    assert found.tensors.counts == {"equal": 1, "changed": 1, "added": 0, "removed": 0}
    assert found.as_dict()["tensors"]["counts"]["changed"] == 1


def test_without_weights_only_the_heads_of_files_are_read(here: Place) -> None:
    for step in (0, 0.1):
        here.register("llama", here.log({"MLmodel": b"flavors: {}", "model.safetensors": weights(step)}))
    found = compared(find("llama/1"), find("llama/2"), here.client, weights=False)
    assert found.tensors is None
    assert found.reason == "only weights changed"
    assert found.distance is None


def test_the_same_files_under_two_versions_are_told_as_such(here: Place) -> None:
    model = here.log({"MLmodel": b"flavors: {}"})
    here.register("llama", model)
    here.register("other", model)
    found = compared(find("llama/1"), find("other/1"), here.client)
    assert found.reason == "nothing changed"
    assert found.files == ()


def test_what_was_registered_from_a_run_has_the_parameters_of_the_run(here: Place, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "MLmodel").write_text("flavors: {}")
    run = here.run()
    here.client.log_param(run, "lr", "1")
    here.client.create_registered_model("plain")
    for _ in range(2):
        here.client.create_model_version("plain", (tmp_path / "plain").as_uri(), run_id=run)
    found = compared(find("plain/1"), find("plain/2"), here.client)
    assert found.parameters == (Pair("lr", "1", "1"),)
