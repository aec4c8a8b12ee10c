"""`shardflow lineage` and `shardflow compare`, as people and programs read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Command
from registry.logged import Place, own_place, safetensors


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        values = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
        for step in range(2):
            weights = safetensors({"a": values + np.float32(step)})
            parent = {"shardflow.parents": '[{"model": "llama", "version": 1}]'} if step else {}
            model = made.log({"MLmodel": b"flavors: {}", "model.safetensors": weights}, metrics={"f1": 0.5 + step / 10})
            made.register("llama", model, {"shardflow.version": f"1.{step}.0", **parent})
        yield made


def test_the_tree_of_a_version(here: Place, shardflow: Command) -> None:
    done = shardflow("lineage", "llama@1.1.0")
    assert done.code == 0
    assert done.out.splitlines() == [
        "llama/2 (1.1.0), draft",
        "  run  not known",
        "made from",
        "  llama/1 (1.0.0), draft [base]",
    ]
    assert "what was made from it\n  llama/2 (1.1.0), draft [base]" in shardflow("lineage", "llama/1").out


def test_the_same_as_json_and_as_a_page(here: Place, shardflow: Command) -> None:
    document = shardflow("lineage", "llama/1", "--json", "--page").document
    assert document["version"] == {"name": "llama/1", "semantic": "1.0.0", "status": "draft"}
    assert [(each["name"], each["distance"]) for each in document["descendants"]] == [("llama/2", 1)]
    assert any(entry.path.endswith("lineage.html") for entry in here.store.ls(recursive=True))


def test_two_versions_side_by_side(here: Place, shardflow: Command) -> None:
    done = shardflow("compare", "llama/1", "llama/2")
    assert done.out.splitlines() == [
        "        llama/1 (1.0.0)  llama/2 (1.1.0)",
        "status  draft            draft",
        "size    16.1 KiB         16.1 KiB",
        "f1      0.5              0.6",
        "patch: only weights changed",
        "1 file not the same in both",
        "tensors: 1 changed",
        "1 step apart in the lineage",
    ]
    assert shardflow("compare", "llama/1", "llama/2", "--no-weights", "--json").document["tensors"] is None
