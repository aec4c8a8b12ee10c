"""A tensor that is far larger than the memory that may be used goes from one format into another in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.warmed import finish, start
from shardflow.flavor import formats
from shardflow.flavor.converting import convert

BUDGET, SIZE = 8 << 20, 192 << 20


def convert_and_tell(source: Path, target: Path, name: str, told: Path) -> None:
    """Convert a small checkpoint first, so that what is imported and compiled then does not count."""
    formats.save({"w": torch.ones(4)}, target.with_name("small"))
    convert(target.with_name("small"), target.with_name("smaller"), name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = peak()
    convert(source, target, name)
    told.write_text(str(peak() - before))


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("name", ["safetensors", "tensorstore-fast"])
def test_a_tensor_of_many_times_the_memory_is_converted_within_a_few_pieces(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDFLOW_MEMORY_BYTES", str(BUDGET))
    row = torch.randint(-(1 << 15), 1 << 15, (8192,)).short()
    formats.save({"w": row.repeat(SIZE // row.nbytes, 1)}, tmp_path / "source")
    finish(start(convert_and_tell, tmp_path / "source", tmp_path / "target", name, tmp_path / "told"))
    grown = int((tmp_path / "told").read_text())
    assert grown < SIZE  # pieces, and what threads have coded of them; the tensor alone would be more
    assert torch.equal(formats.read(tmp_path / "target", "w", slice(-1, None))[0], row)
