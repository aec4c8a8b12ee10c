"""The benchmark of stores as DVC's remotes runs: never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "dvc" / "run.py"


def figures(part: str, home: Path) -> list[dict[str, Any]]:
    """What a tiny run on the local disk comes to; it leaves nothing behind."""
    results, data = home / "result.json", home / "data"
    data.mkdir()
    command = [sys.executable, str(BENCHMARK), "--small", "--parts", part, "--places", "local"]
    subprocess.run([*command, "--directory", str(data), "--json", str(results)], check=True)
    assert list(data.iterdir()) == []
    found: list[dict[str, Any]] = json.loads(results.read_text())["figures"]
    return found


@pytest.mark.slow
def test_it_measures_beside_dvcs_own_remote(tmp_path: Path) -> None:
    assert [figure["what"].split(" ")[0] for figure in figures("many", tmp_path)] == ["push", "status"]


@pytest.mark.slow
def test_it_kills_commands_at_work_and_counts_what_the_next_one_does_again(tmp_path: Path) -> None:
    found = figures("kills", tmp_path)
    assert [figure["what"].split(" ")[0] for figure in found] == ["push", "pull"]
    assert all(figure["raw"]["bytes_again"]["max"] <= 4 << 20 for figure in found)
    assert found[0]["raw"]["finished_bytes_repeated"] == 0
