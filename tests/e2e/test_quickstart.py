"""The main demonstration, end to end: it compares what it loads itself, and MLflow has what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_versions_are_logged_through_a_server_compared_and_the_second_is_a_difference(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(QUICKSTART)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same to the last bit" in done.stdout
    saved = re.search(r"(\d+)% saved", done.stdout)
    assert saved is not None
    assert int(saved[1]) > 30
    assert re.search(r"versions +http://127\.0\.0\.1:\d+/#/models/writer", done.stdout)

    client = MlflowClient(f"sqlite:///{tmp_path}/.demo/mlflow/mlflow.db")
    assert {str(version.version) for version in client.search_model_versions("name = 'writer'")} == {"1", "2"}
    models = sorted(client.search_logged_models(experiment_ids=["0"]), key=lambda model: model.creation_timestamp)
    assert models[1].tags["shardflow.parent"] == models[0].model_id
    assert int(models[1].tags["shardflow.bytes_sent"]) < 0.5 * int(models[0].tags["shardflow.bytes_sent"])
