"""How these tests run the command: in this process where that is enough, as a real process where it is not."""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shardflow.cli.app import commands

WEIGHTS_BYTES = 1_560_576
COMMAND = (sys.executable, "-m", "shardflow.cli")


@dataclass(frozen=True)
class Outcome:
    """What came of a command line."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SHARDFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARDFLOW_STORE", raising=False)


@pytest.fixture
def shardflow() -> Command:
    """Run a command line in this process."""

    def run(*args: str | Path, input: bytes | None = None) -> Outcome:  # noqa: A002
        result = CliRunner().invoke(commands, [str(arg) for arg in args], input=input)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def process() -> Command:
    """Run a command line as a process of its own; `before` runs in it before the command does."""

    def run(*args: str | Path, before: Callable[[], None] | None = None, **env: str) -> Outcome:
        done = subprocess.run(
            [*COMMAND, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            preexec_fn=before,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def store(tmp_path: Path, shardflow: Command) -> Path:
    """An empty store."""
    place = tmp_path / "store"
    assert shardflow("init", place).code == 0
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with a file that needs packs, a small one and a directory below."""
    directory = tmp_path / "model"
    (directory / "inner").mkdir(parents=True)
    (directory / "weights.bin").write_bytes(random.Random(7).randbytes(WEIGHTS_BYTES))
    (directory / "config.json").write_text('{"layers": 2}')
    (directory / "inner" / "notes.txt").write_text("trained on Tuesday")
    return directory


@pytest.fixture
def filled(store: Path, model: Path, shardflow: Command) -> Path:
    """A store with the model in it, at `m/v1`."""
    assert shardflow("put", model, store / "m/v1").code == 0
    return store


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path there."""
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def the_line(outcome: Outcome) -> str:
    """What a failed command said, after checking that it was one line and that stdout stayed empty."""
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("shardflow: ")
    return lines[0]


def without_root_rights() -> None:
    """In the process to be: let permission bits hold even for root. Others have no such right, and lose nothing."""
    libc = ctypes.CDLL(None)
    drop_from_bounding_set, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        libc.prctl(drop_from_bounding_set, capability, 0, 0, 0)
