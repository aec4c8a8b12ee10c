"""The demonstration of a pipeline, end to end: it checks itself, and MLflow has what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shardflow.registry.keys import make_key

DEMO = Path(__file__).parents[3] / "examples" / "dvc_demo.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_pipeline_runs_is_repeated_compared_and_brought_back(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key.pem")
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        env={**os.environ, "SHARDFLOW_KEY": str(key)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare at" in done.stdout  # the stage behind the data of the registered model

    client = MlflowClient(f"sqlite:///{tmp_path}/.demo/dvc/project/.shardflow/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "dvc-pipeline"]
    second, first = client.search_runs([experiment.experiment_id])
    differing = {name for name, value in first.data.params.items() if second.data.params[name] != value}
    assert differing == {"lr"}
    assert first.data.metrics.keys() == second.data.metrics.keys() >= {"loss", "test.accuracy"}
    assert ("dvc.experiment" in first.data.tags, second.data.tags["dvc.experiment"]) == (False, "slower")
    assert all(run.data.tags["shardflow.checkpoint.step"] == "10" for run in (first, second))
    for version in (client.get_model_version("classifier", number) for number in ("1", "2")):
        assert len(version.tags["verdict.sha256"]) == 64
        assert [name for name in version.tags if name.startswith("shardflow.statement.")]
