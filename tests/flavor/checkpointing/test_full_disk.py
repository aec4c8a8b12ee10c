"""A disk that gets really full while a step is stored in the background, and one that has room again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from services.small_disk import SmallDisk
from shardflow.flavor.checkpointing import AsyncCheckpointer
from shardflow.flavor.checkpointing.errors import SaveFailed, StoringFailed
from shardflow.flavor.dcp import Reader, Writer
from shardflow.store.config import Settings
from shardflow.store.store import Store
from shardflow.transport import NoSpace

pytestmark = pytest.mark.service("small_disk")

MIB = 1 << 20
NAMES = [f"layers.{number}.weight" for number in range(6)]


def noise(seed: int, rows: int) -> dict[str, Any]:
    """Six layers that nothing compresses, of a kilobyte for each row."""
    made = torch.Generator().manual_seed(seed)
    return {name: torch.randint(-(1 << 62), 1 << 62, (rows, 128), generator=made) for name in NAMES}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in NAMES)


@pytest.fixture
def url(small_disk: SmallDisk) -> str:
    """A run in a store with room for five megabytes."""
    small_disk.resize(5 * MIB)
    store = Store.init(f"shardflow://file{small_disk.seen}/store", Settings(pack_bytes=MIB // 4, chunk_bytes=64 << 10))
    return f"{store.url}/run"


def test_the_next_call_and_the_end_name_step_tensor_and_what_to_do(small_disk: SmallDisk, url: str) -> None:
    checkpoints = AsyncCheckpointer(url)
    checkpoints.save(1, noise(1, 300))
    checkpoints.wait()
    checkpoints.save(2, noise(2, 2000))
    with pytest.raises(SaveFailed) as caught:
        checkpoints.wait()
    assert "step 2 was not saved: cannot write " in caught.value.message
    assert "no space left" in caught.value.message
    (reached,) = [name for name in NAMES if caught.value.message.endswith(f", when it had got to {name}")]
    assert reached in NAMES[:3], "three megabytes were free, and a layer has two"
    assert caught.value.remedy == "free some space and save again; the checkpoints before it are intact"
    assert isinstance(caught.value.__cause__, StoringFailed)
    assert isinstance(caught.value.__cause__.__cause__, NoSpace)
    assert checkpoints.latest() == 1
    assert same(checkpoints.load(), noise(1, 300))
    checkpoints.save(3, noise(3, 2000))
    with pytest.raises(SaveFailed, match=r"step 3 was not saved: .*no space left"):
        checkpoints.close()
    small_disk.resize(32 * MIB)
    with AsyncCheckpointer(url) as again:
        again.save(2, noise(2, 2000))
        again.wait()
        assert again.steps() == [1, 2]
        assert same(again.load(), noise(2, 2000))
        assert same(again.load(1), noise(1, 300))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated")
def test_a_rank_that_finds_no_room_names_the_tensor_and_the_checkpoint_before_stays(
    small_disk: SmallDisk, url: str
) -> None:
    dcp.save(noise(1, 300), storage_writer=Writer(f"{url}/step-1"))
    with pytest.raises(CheckpointException, match=r"no space left.*, when it had got to layers\.[0-2]\.weight"):
        dcp.save(noise(2, 2000), storage_writer=Writer(f"{url}/step-1"))
    found = noise(0, 300)
    dcp.load(found, storage_reader=Reader(f"{url}/step-1"))
    assert same(found, noise(1, 300))
    small_disk.resize(32 * MIB)
    dcp.save(noise(2, 2000), storage_writer=Writer(f"{url}/step-1"))
    found = noise(0, 2000)
    dcp.load(found, storage_reader=Reader(f"{url}/step-1"))
    assert same(found, noise(2, 2000))
