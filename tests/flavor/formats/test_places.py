"""Where checkpoints are written: what cannot fit there is not begun."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from shardflow.flavor.formats.places import require_room
from shardflow.store.errors import TargetUnusable


@pytest.fixture(autouse=True)
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1000, free=10))


@pytest.mark.parametrize("name", ["safetensors", "torch", "torch-zstd", "dcp"])
def test_what_is_written_as_it_is_at_first_needs_as_much_room(name: str, tmp_path: Path) -> None:
    require_room(tmp_path, name, 10)
    with pytest.raises(TargetUnusable, match="the tensors are 11 bytes, and there are 10"):
        require_room(tmp_path, name, 11)


def test_what_is_coded_may_become_far_smaller(tmp_path: Path) -> None:
    require_room(tmp_path, "tensorstore-t5x", 10_000)
    with pytest.raises(TargetUnusable, match="the tensors are 10,001 bytes"):
        require_room(tmp_path, "tensorstore-t5x", 10_001)
