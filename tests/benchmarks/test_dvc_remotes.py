"""The benchmark of stores as DVC's remotes runs: never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "dvc" / "run.py"


@pytest.mark.slow
def test_it_measures_beside_dvcs_own_remote(tmp_path: Path) -> None:
    results, data = tmp_path / "result.json", tmp_path / "data"
    data.mkdir()
    command = [
        sys.executable,
        str(BENCHMARK),
        "--small",
        "--parts",
        "many",
        "--places",
        "local",
        "--directory",
        str(data),
    ]
    subprocess.run([*command, "--json", str(results)], check=True)
    report = json.loads(results.read_text())
    assert [figure["what"].split(" ")[0] for figure in report["figures"]] == ["push", "status"]
    assert list(data.iterdir()) == []
