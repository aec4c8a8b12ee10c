"""A process that saves checkpoints where others do so at the same moment."""

from __future__ import annotations

from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import torch

from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention
from shardflow.flavor.checkpointing.errors import SaveFailed

STEPS = 6
Refused = SimpleQueue[tuple[int, int]]


def save_steps(url: str, name: int, kept: int, begin: Barrier, refused: Refused, *, replace: bool) -> None:
    """Save all steps once all rivals are ready; says in the end who this was, and how many were refused."""
    count = 0
    with AsyncCheckpointer(url, keep=Retention(last=kept)) as checkpoints:
        begin.wait()
        for step in range(STEPS):
            numbers = torch.full((300, 300), float(1000 * name + step))
            checkpoints.save(step, {"weights": numbers, "name": name, "last": numbers + 1}, replace=replace)
            try:
                checkpoints.wait()
            except SaveFailed as error:
                if "is stored already" not in error.message:
                    raise
                count += 1
    refused.put((name, count))
