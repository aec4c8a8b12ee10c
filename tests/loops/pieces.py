"""Small loops in modules of their own, which tests may change and break."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from shardflow.loops import LoopSet, Signature, compiling, number, read, written

if TYPE_CHECKING:
    from pathlib import Path

_numbers = itertools.count()

ADDING = """
def add(words, amount, out):
    for i in range(out.size):
        out[i] = words[i] + amount
    return out.size
"""


def adding(word: str) -> Signature:
    return (read(word), number(word), written(word))


def loops_of(module: str) -> LoopSet:
    return LoopSet(module, {"add": adding})


def source(directory: Path, text: str = ADDING) -> str:
    """The name of a module with that text, of which there is one of each name in a run."""
    name = f"added_{next(_numbers)}"
    (directory / f"{name}.py").write_text(text)
    return name


def run(program: str, **environment: str) -> str:
    """What a process of its own prints."""
    argv = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Compilations:
    """Counts what is compiled."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._compiled = compiling.compiled
        patch.setattr(compiling, "compiled", self._counted)

    def _counted(self, *given: object) -> compiling.Compiled:
        self.count += 1
        return self._compiled(*given)  # type: ignore[arg-type]
