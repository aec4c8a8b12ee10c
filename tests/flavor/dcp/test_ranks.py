"""Checkpoints of several processes, loaded by other numbers of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flavor.conftest import SMALL
from flavor.dcp.ranks import load_divided, load_everything, load_step, on_ranks, save_everything
from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.checkpointing.files import below
from shardflow.flavor.dcp.places import read_checkpoint
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Saved = tuple[Store, str]


def saved_by(count: int, desk: Path) -> Saved:
    store = Store.init(str(desk.resolve() / "store"), SMALL)
    root = f"{store.url}/run"
    on_ranks(count, save_everything, desk, root)
    return store, root


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """What four ranks saved."""
    return saved_by(4, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def saved_by_two(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return saved_by(2, tmp_path_factory.mktemp("two"))


def test_two_ranks_load_what_four_saved(saved: Saved, tmp_path: Path) -> None:
    on_ranks(2, load_everything, tmp_path, saved[1])


def test_one_rank_loads_what_four_saved(saved: Saved, alone: None) -> None:
    load_everything(0, saved[1])


@pytest.mark.parametrize("count", [3, 4])
def test_more_ranks_load_what_two_saved(saved_by_two: Saved, count: int, tmp_path: Path) -> None:
    on_ranks(count, load_everything, tmp_path, saved_by_two[1])


@pytest.mark.parametrize("count", [2, 4])
def test_tensors_divided_in_two_ways_go_into_other_divisions_and_back(saved: Saved, count: int, tmp_path: Path) -> None:
    on_ranks(count, load_divided, tmp_path, saved[1])


def test_two_ranks_load_what_one_saved(tmp_path: Path, alone: None) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), SMALL)
    save_everything(0, f"{store.url}/run")
    on_ranks(2, load_everything, tmp_path, f"{store.url}/run")


def test_each_rank_wrote_a_file_of_its_own_and_what_all_have_is_there_once(saved: Saved) -> None:
    store, _ = saved
    names = {path.rpartition("/")[2] for path in below(store, "run/layouts")}
    assert names == {"dcp.json", *(f"rank-0000{rank}.safetensors" for rank in range(4))}
    checkpoint = read_checkpoint(store, "run/layouts")
    chunks = {name: [chunk.sizes for chunk in tensor.chunks] for name, tensor in checkpoint.tensors.items()}
    assert chunks["rows"] == [(15, 14)] * 4
    assert chunks["columns"] == [(60, 4), (60, 4), (60, 4), (60, 2)]
    assert chunks["alike"] == chunks["plain"] == [(60, 14)]
    assert chunks["both"] == [(30, 7)] * 4
    assert chunks["columns alike"] == [(60, 7)] * 2
    size = sum(file.size for file in checkpoint.files)
    assert size < 6 * 60 * 14 * 4 + 4 * 1024  # and the headers


def test_a_step_is_coded_against_the_one_before(saved: Saved) -> None:
    store, _ = saved
    codecs = [store.stat(f"run/step-{step}").codecs for step in (1, 2)]
    assert "delta" not in codecs[0]
    assert codecs[1].get("delta", 0) > 0


def test_the_file_of_a_rank_that_is_gone_is_named_with_the_tensor(saved: Saved, alone: None) -> None:
    store, root = saved
    store.rm("run/step-1/rank-00002.safetensors")
    with pytest.raises(BaseException, match=r"has lost rank-00002.safetensors, which has [a-z.]+\S*") as caught:
        load_step(f"{root}/step-1", 1)
    assert any(isinstance(error, CheckpointDamaged) for error, _ in caught.value.failures.values())
