"""The benchmark of checkpoints in a pipeline runs: never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "dvc" / "checkpoints.py"


@pytest.mark.slow
def test_it_measures_what_is_stored_and_what_saving_adds(tmp_path: Path) -> None:
    results, data = tmp_path / "result.json", tmp_path / "data"
    data.mkdir()
    command = [sys.executable, str(BENCHMARK), "--small", "--json", str(results), "--directory", str(data)]
    subprocess.run(command, check=True)
    report = json.loads(results.read_text())
    assert len(report["figures"]) >= 7
    assert list(data.iterdir()) == []
