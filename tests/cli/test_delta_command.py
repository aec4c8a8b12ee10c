"""`delta` as a process that may be killed, and `delta chain --apply`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import COMMAND, Outcome
from delta.models import as_file, model, trained

Command = Callable[..., Outcome]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "v1").write_bytes(as_file(model()))
    (tmp_path / "v2").write_bytes(as_file(trained(model(), 1e-7)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_chain_is_applied_from_its_begin_to_its_end(files: Path, shardflow: Command) -> None:
    shardflow("delta", "create", "v1", "v2", "there")
    shardflow("delta", "create", "v2", "v1", "back")
    done = shardflow("delta", "chain", "there", "back", "--apply", "v1", "out")
    assert "as the last patch promises" in done.out
    assert (files / "out").read_bytes() == (files / "v1").read_bytes()
    refused = shardflow("delta", "chain", "back", "there", "--apply", "v1", "other")
    assert "v1 is not what back was made for" in refused.err
    assert not (files / "other").exists()


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2])
@pytest.mark.parametrize("what", ["create", "apply"])
def test_a_killed_process_leaves_a_whole_target_or_none(
    files: Path, shardflow: Command, what: str, seconds: float
) -> None:
    shardflow("delta", "create", "v1", "v2", "p")
    whole = {"create": (files / "p").read_bytes(), "apply": (files / "v2").read_bytes()}[what]
    line = {"create": ["v1", "v2", "out"], "apply": ["v1", "p", "out"]}[what]
    started = subprocess.Popen([*COMMAND, "delta", what, *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    started.kill()
    started.wait()
    assert not (files / "out").exists() or len((files / "out").read_bytes()) == len(whole)
    assert shardflow("delta", what, *line).code == 0
