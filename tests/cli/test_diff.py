"""`diff` tells tensors that were renamed, which are neither changed nor the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.conftest import Outcome
from delta.models import as_file, model

Command = Callable[..., Outcome]


def test_diff_lists_and_counts_renamed_tensors(tmp_path: Path, shardflow: Command) -> None:
    (tmp_path / "a").write_bytes(as_file(model()))
    (tmp_path / "b").write_bytes(as_file({f"module.{name}": values for name, values in model().items()}))
    shown = shardflow("diff", tmp_path / "a", tmp_path / "b")
    assert shown.code == 0
    assert "module.head.weight (was head.weight)" in shown.out
    assert "11 tensors: 11 equal, 11 renamed" in shown.out
    assert "both hold the same" not in shown.out
    assert shardflow("diff", tmp_path / "a", tmp_path / "b", "--json").document["renamed"] == 11
