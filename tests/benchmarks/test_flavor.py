"""What the benchmark of the flavor has its processes do: never how fast they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

FLAVOR = Path(__file__).parents[2] / "benchmarks" / "flavor"
LENGTH = 1 << 20


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small model, and an experiment whose artifacts go to a store."""
    monkeypatch.syspath_prepend(str(FLAVOR))
    import models

    models.prepare(tmp_path / "model", LENGTH)
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    mlflow.set_tracking_uri(tracking)
    mlflow.create_experiment("measured", artifact_location=f"shardflow://file{tmp_path}/store")
    return {"tracking": tracking, "model": str(tmp_path / "model"), "weights": models.WEIGHTS}


def done(program: str, asked: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(FLAVOR / f"{program}.py"), json.dumps(asked)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"})


@pytest.mark.slow
def test_a_model_is_saved_by_one_process_and_loaded_by_another(desk: dict[str, Any], tmp_path: Path) -> None:
    asked = desk | {"rival": "shardflow", "directory": str(tmp_path / "files"), "homes": [str(tmp_path / "home")]}
    asked |= {"experiments": ["measured"]}
    saved = done("rivals", asked | {"verb": "save"})
    answer = json.loads(saved.stdout.splitlines()[-1])["answer"]
    loaded = done("rivals", asked | {"verb": "load", "saved": answer})
    assert json.loads(loaded.stdout.splitlines()[-1])["peak_bytes"] > 0, loaded.stderr


@pytest.mark.slow
def test_the_memory_that_is_a_process_own_is_told_apart_from_the_pages_of_a_file(desk: dict[str, Any]) -> None:
    asked = {"tracking": desk["tracking"], "experiment": "measured", "file": str(Path(desk["model"], "weights.pt"))}
    found = json.loads(done("from_file", asked).stdout.splitlines()[-1])
    assert 0 < found["own_peak_bytes"] < 1 << 30
