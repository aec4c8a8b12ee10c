"""The benchmark of the registry beside MLflow's own store runs: never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "registry" / "run.py"


@pytest.mark.slow
def test_it_measures_beside_mlflows_own_store(tmp_path: Path) -> None:
    results, data = tmp_path / "result.json", tmp_path / "data"
    data.mkdir()
    command = [sys.executable, str(BENCHMARK), "--small", "--places", "sqlite", "--directory", str(data)]
    subprocess.run([*command, "--json", str(results)], check=True)
    figures = json.loads(results.read_text())["figures"]
    assert [figure["what"].partition(": ")[2].split(",")[0] for figure in figures] == [
        "lookup by alias",
        "lookup by semantic version",
        *["transition"] * 6,
        "registering a version",
        "lineage of 20 in a line",
    ]
    assert list(data.iterdir()) == []
