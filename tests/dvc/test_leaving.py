"""DVC's own command ends without a last search for garbage; programs that only use DVC end as Python does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import gc
from shardflow.dvc.leaving import leave_without_looking_back

class Circle:
    def __init__(self): self.me = self
    def __del__(self): print("found", flush=True)

gc.disable()
leave_without_looking_back()
leave_without_looking_back()
Circle()
"""


@pytest.mark.parametrize(("program", "output"), [("dvc", ""), ("train.py", "found\n")])
def test_only_dvc_s_own_command_leaves_its_garbage(tmp_path: Path, program: str, output: str) -> None:
    (tmp_path / program).write_text(PROGRAM)
    assert subprocess.check_output([sys.executable, program], cwd=tmp_path, text=True) == output
