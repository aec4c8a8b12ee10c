"""Moments of a save at which a rank is killed; what it was saving is then there as a whole or not at all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh

from flavor.dcp.ranks import laid_out, remember, save_step, sharded, train
from shardflow.flavor.checkpointing import files
from shardflow.flavor.dcp import Writer
from shardflow.flavor.dcp import writer as writing
from shardflow.store.store import Store

put_against, put_text = files.put_against, files.put_text


def die_while_writing(rank: int, root: str) -> None:
    """Rank 1 is gone in the middle of the second checkpoint."""
    model, optimizer = sharded()
    train(model, optimizer, 1)
    save_step(model, optimizer, root, 1)
    remember(rank, model, optimizer, f"{root}/step-1")
    if rank == 1:
        writing.files.put_against = killed
    train(model, optimizer, 1)
    save_step(model, optimizer, root, 2)


def save_and_die(rank: int, url: str, moment: str) -> None:
    """A checkpoint, and over it another one that comes as far as the moment."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    dcp.save(laid_out(mesh, 1.0), storage_writer=Writer(url))
    MOMENTS[moment](rank)
    dcp.save(laid_out(mesh, 2.0), storage_writer=Writer(url))


def before_any_pack(_: int) -> None:
    writing.files.put_against = killed


def when_the_other_rank_has_written(rank: int) -> None:
    if rank == 1:
        writing.files.put_against = _killed_after_rank_0


def before_it_counts(rank: int) -> None:
    if rank == 0:
        writing.files.put_text = killed


def when_it_counts(rank: int) -> None:
    """What it takes the place of is there still."""
    if rank == 0:
        writing.swept = killed


MOMENTS: dict[str, Callable[[int], None]] = {
    each.__name__: each for each in (before_any_pack, when_the_other_rank_has_written, before_it_counts, when_it_counts)
}


def killed(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_after_rank_0(store: Store, _: Any, directory: str, *__: Any, **___: Any) -> None:
    while f"{directory}/rank-00000.safetensors" not in files.below(store, directory):
        time.sleep(0.01)
    killed()
