"""What several ranks of torch.distributed.checkpoint wrote, with no help of ours, is read by one process."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from flavor.dcp.ranks import on_ranks, save_with_torch
from flavor.formats.states import differing
from shardflow.flavor import formats
from shardflow.flavor.converting import convert
from shardflow.flavor.formats.dcp import tell_of
from shardflow.flavor.formats.errors import CheckpointDamaged

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its optimizer that FSDP2 divided among two ranks, and tensors in other layouts."""
    desk = tmp_path_factory.mktemp("torch")
    on_ranks(2, save_with_torch, desk, str(desk / "checkpoint"))
    return desk / "checkpoint"


@pytest.fixture
def whole(saved: Path) -> dict[str, torch.Tensor]:
    """All of it as if there were one rank."""
    loaded: dict[str, torch.Tensor] = torch.load(f"{saved}.pt", weights_only=True)
    return loaded


def test_every_tensor_that_ranks_divided_is_put_together_bit_by_bit(
    saved: Path, whole: dict[str, torch.Tensor]
) -> None:
    assert {file.name for file in saved.iterdir()} >= {"__0_0.distcp", "__1_0.distcp", ".metadata"}
    assert differing(formats.load(saved), whole) == []
    part = formats.read(saved, "laid.both", (slice(10, 50), slice(3, 9)))
    assert torch.equal(part, whole["laid.both"][10:50, 3:9])


def test_what_is_no_tensor_is_named_once_where_it_is_left_out(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    tell_of.cache_clear()
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        loaded = formats.load(saved)
        formats.load(saved)
    assert not {"epoch", "optimizer.param_groups.0.lr"} & loaded.keys()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{saved}: left out, being no tensors: ")
    assert "epoch" in told
    assert "optimizer.param_groups.0.lr, " in told


def test_a_checkpoint_of_many_other_entries_names_some_and_counts_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries: dict[str, BytesStorageMetadata] = {f"lr.{number:02}": BytesStorageMetadata() for number in range(50)}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Metadata(dict(entries))))
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        assert formats.load(tmp_path) == {}
    assert "lr.00, lr.01, " in caplog.text
    assert "lr.19 and 30 more; torch.distributed.checkpoint reads them" in caplog.text


@pytest.mark.parametrize("to", ["safetensors", "tensorstore-fast"])
def test_it_is_converted_and_what_is_left_out_is_returned(
    to: str, saved: Path, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    done = convert(saved, tmp_path / "converted", to)
    assert differing(formats.load(tmp_path / "converted"), whole) == []
    assert {"epoch", "optimizer.param_groups.0.lr"} <= set(done.left_out)
    assert not set(done.left_out) & whole.keys()


def test_the_file_of_a_rank_that_is_gone_is_named_with_a_tensor(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        if file.name != "__1_0.distcp":
            (tmp_path / file.name).hardlink_to(file)
    with pytest.raises(CheckpointDamaged, match=r"tensor \S+ cannot be read: __1_0\.distcp, which a rank"):
        formats.load(tmp_path)
