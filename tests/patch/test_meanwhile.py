"""A patch leads from one file that there was to another: what is written to while it is made has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardflow.patch import create, creating
from shardflow.store.errors import SourceChanged
from store.samples import flipped, noise


@pytest.mark.parametrize("name", ["old", "new"])
def test_no_patch_is_made_of_a_file_that_is_written_to_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for seed, each in enumerate(("old", "new")):
        (tmp_path / each).write_bytes(noise(100_000, seed))
    written = creating.write_directory

    def late(*parts: Any) -> None:
        (tmp_path / name).write_bytes(flipped((tmp_path / name).read_bytes(), 7))
        written(*parts)

    monkeypatch.setattr(creating, "write_directory", late)
    with pytest.raises(SourceChanged, match=rf"{name} changed while"):
        create(tmp_path / "old", tmp_path / "new", tmp_path / "patch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
