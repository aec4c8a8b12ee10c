"""`shardflow publish`: from a file to a numbered version on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

from cli.conftest import Command, the_line
from registry.logged import Place, own_place, safetensors
from shardflow.cli.registry import client


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        values = np.random.default_rng(1).normal(size=(256, 256)).astype(np.float32)
        for step in range(2):
            (tmp_path / f"v{step}.safetensors").write_bytes(safetensors({"a": values, "b": values + np.float32(step)}))
        yield made


def test_two_versions_are_published_one_upon_the_other(here: Place, tmp_path: Path, shardflow: Command) -> None:
    experiment = here.client.get_experiment(here.experiment).name
    done = shardflow(
        "publish", tmp_path / "v0.safetensors", "--name", "llama", "--version", "1.0.0", "--experiment", experiment
    )
    assert done.code == 0, done.err
    assert done.out.startswith("published llama/1 as 1.0.0: as asked for\n")
    done = shardflow(
        "publish", tmp_path / "v1.safetensors", "--name", "llama", "--base", "llama@1.0.0", "--tag", "team=nlp",
        "--description", "the second", "--json",
    )  # fmt: skip
    assert done.document["semantic"] == "1.0.1"
    assert done.document["alias"] == "v1-0-1"
    assert done.document["bytes_sent"] < done.document["bytes_reused"]
    found = mlflow.MlflowClient().get_model_version("llama", "2")
    assert (found.tags["team"], found.description) == ("nlp", "the second")
    assert "llama/1 (1.0.0), draft [base]" in shardflow("lineage", "llama/2").out
    sharding = ("--sharding", "balanced", "--shard-size", "300KB")
    assert shardflow("publish", tmp_path / "v1.safetensors", "--name", "other", *sharding).code == 0
    files = [entry.path for entry in here.store.ls(recursive=True) if entry.path.endswith(".safetensors")]
    assert len(files) == 1 + 1 + 2


def test_what_cannot_be_published_is_one_line(here: Place, tmp_path: Path, shardflow: Command) -> None:
    assert shardflow("publish", tmp_path / "none", "--name", "llama").code == 2
    assert shardflow("publish", tmp_path / "v0.safetensors", "--name", "llama", "--tag", "nlp").code == 2
    done = shardflow("publish", tmp_path / "v0.safetensors", "--name", "llama", "--base", "llama@0.1.0")
    assert done.code == 1
    assert "there is no llama@0.1.0" in the_line(done)
    done = shardflow("publish", tmp_path / "v0.safetensors", "--name", "llama", "--format", "gguf")
    assert "there is no checkpoint format 'gguf'" in the_line(done)
    done = shardflow("publish", tmp_path / "v0.safetensors", "--name", "llama", "--version", "one")
    assert "'one' is no semantic version" in the_line(done)


def test_mlflow_says_nothing_on_standard_output(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server, it would print where the run can be seen, amid the JSON."""
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    with client():
        assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()
