"""Ranks are killed in the middle of a save: the checkpoint before it is whole, and the next save goes through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh

from flavor.conftest import SMALL
from flavor.dcp.dying import MOMENTS, die_while_writing, save_and_die, when_it_counts
from flavor.dcp.ranks import full, laid_out, load_step, on_ranks
from shardflow.flavor.checkpointing import files
from shardflow.flavor.dcp import Reader, Writer
from shardflow.flavor.dcp.errors import CheckpointMissing
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

# Who notices first is the parent, or the other rank.
DIED = pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException), match=r"SIGKILL|Connection")


def test_a_rank_that_is_killed_while_it_writes_leaves_the_last_checkpoint_whole(tmp_path: Path, alone: None) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), SMALL)
    with DIED:
        on_ranks(2, die_while_writing, tmp_path, f"{store.url}/run")
    load_step(f"{store.url}/run/step-1", 1)
    with pytest.raises(CheckpointMissing, match=r"step-2 is no checkpoint, or was not finished"):
        Reader(f"{store.url}/run/step-2").read_metadata()


@pytest.mark.parametrize("moment", MOMENTS)
def test_whenever_a_rank_is_killed_there_is_one_whole_checkpoint_and_the_next_takes_its_place(
    moment: str, tmp_path: Path, alone: None
) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), SMALL)
    url = f"{store.url}/run/step-1"
    with DIED:
        on_ranks(2, save_and_die, tmp_path, url, moment)
    assert saved(url, 2.0 if moment == when_it_counts.__name__ else 1.0)
    mesh = init_device_mesh("cpu", (1,))
    dcp.save(laid_out(mesh, 3.0), storage_writer=Writer(url))
    assert saved(url, 3.0)
    names = [path.rpartition("/")[2] for path in files.below(store, "run")]
    assert sorted(names) == ["dcp.json", "rank-00000.safetensors"], "what the dead left is removed"


def saved(url: str, factor: float) -> bool:
    """Whether all of the tensors that were saved with this factor are what is loaded."""
    mesh = init_device_mesh("cpu", (1,))
    found = laid_out(mesh, 0.0)
    dcp.load(found, storage_reader=Reader(url))
    return all(torch.equal(full(found[name]), full(each)) for name, each in laid_out(mesh, factor).items())
