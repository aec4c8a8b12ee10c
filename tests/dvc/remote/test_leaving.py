"""A DVC command ends without a last search for garbage; a program that uses DVC ends as it always did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import DVC, Project

COUNTING = """
import atexit, gc, sys
atexit.register(lambda: print("spared:", gc.get_freeze_count() > 0, file=sys.stderr))
"""
PROGRAM = "from dvc.repo import Repo; print(Repo().config['remote'])"


@pytest.fixture
def spared(here: Project, tmp_path: Path) -> Callable[..., bool]:
    """Runs a program in a project with a remote of ours; says whether its objects were spared the search at the end."""
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    def run(*command: str) -> bool:
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=here.root, env=environment, capture_output=True, text=True, check=True)
        assert "spared:" in done.stderr
        return "spared: True" in done.stderr

    return run


def test_a_command_does(spared: Callable[..., bool]) -> None:
    assert spared(*DVC, "status", "-c")
    assert spared(str(Path(sys.executable).with_name("dvc")), "status", "-c")


def test_a_program_that_uses_dvc_does_not(spared: Callable[..., bool]) -> None:
    assert not spared(sys.executable, "-c", PROGRAM)
