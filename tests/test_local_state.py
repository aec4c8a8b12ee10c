"""What is kept on this machine lies where its user says, or where such things lie by custom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardflow.errors import ShardflowError
from shardflow.local_state import bytes_from, cache_directory, state_directory
from shardflow.store.journal import Journal

PLACES = [
    (state_directory, "SHARDFLOW_STATE", "XDG_STATE_HOME", ".local/state/shardflow"),
    (cache_directory, "SHARDFLOW_CACHE", "XDG_CACHE_HOME", ".cache/shardflow"),
]


@pytest.mark.parametrize(("directory", "own", "shared", "default"), PLACES)
def test_the_nearest_setting_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: object, own: str, shared: str, default: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(own, str(tmp_path / "own"))
    monkeypatch.setenv(shared, str(tmp_path / "shared"))
    assert directory() == tmp_path / "own"  # type: ignore[operator]
    monkeypatch.setenv(own, "")
    assert directory() == tmp_path / "shared/shardflow"  # type: ignore[operator]
    monkeypatch.delenv(shared)
    assert directory() == tmp_path / "home" / default  # type: ignore[operator]


def test_a_user_without_a_home_keeps_nothing_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a user id of its own."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("SHARDFLOW_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    journal = Journal("id")
    journal.note(bytes(32), [])
    assert not dict(journal.unfinished())


def test_a_number_of_bytes_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_BYTES", raising=False)
    assert bytes_from("SOME_BYTES", 7) == 7
    monkeypatch.setenv("SOME_BYTES", "")
    assert bytes_from("SOME_BYTES", 7) == 7
    monkeypatch.setenv("SOME_BYTES", "0")
    assert bytes_from("SOME_BYTES", 7) == 0
    monkeypatch.setenv("SOME_BYTES", "a lot")
    with pytest.raises(ShardflowError, match="SOME_BYTES is 'a lot'; set it to a number of bytes"):
        bytes_from("SOME_BYTES", 7)


def test_the_budget_of_a_process_may_come_from_the_environment() -> None:
    script = "from shardflow.store.store import shared_budget; print(shared_budget().total)"
    environment = os.environ | {"SHARDFLOW_MEMORY_BYTES": "12345"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "12345\n"
