"""A command imports numpy with threads that go to sleep at once, and changes nothing for the programs it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import json, os, sys
from shardflow.numpy_at_rest import TIMEOUT_VARIABLE, import_numpy_at_rest

seen = []
class Watching:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            seen.append(os.environ.get(TIMEOUT_VARIABLE))

sys.meta_path.insert(0, Watching())
import_numpy_at_rest()
import_numpy_at_rest()
print(json.dumps([seen, "numpy" in sys.modules, os.environ.get(TIMEOUT_VARIABLE)]))
"""


def probed(**environment: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_its_threads_do_not_look_for_work_and_those_of_other_programs_do_as_ever() -> None:
    assert probed() == [["4"], True, None]


def test_what_the_user_says_of_them_is_kept() -> None:
    assert probed(OPENBLAS_THREAD_TIMEOUT="20") == [[], False, "20"]


@pytest.mark.parametrize("command", [["ls"], ["stat"]])
def test_a_command_that_needs_numpy_imports_it_so(command: list[str]) -> None:
    code = (
        "import sys, shardflow.numpy_at_rest as at_rest, shardflow.cli.run as run\n"
        "run.import_numpy_at_rest = lambda: print('at rest', 'numpy' in sys.modules)\n"
        "from shardflow.cli import main\n"
        f"main([*{command!r}, 'shardflow://memory/none'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "at rest False" in done.stdout, done.stderr
