"""Checkpoints of a training run: saved in the background, each by how it differs from the one before.

with AsyncCheckpointer("shardflow://s3/bucket/runs/7", keep=Retention(last=3)) as checkpoints:
    checkpoints.save(step, state_of(module=model, optimizer=optimizer, rng=True))
    state = checkpoints.load(into=state_of(module=model))
    restore(state, module=model, optimizer=optimizer, rng=True)
"""

from shardflow.flavor.checkpointing.checkpointer import AsyncCheckpointer
from shardflow.flavor.checkpointing.retention import Retention, StepInfo
from shardflow.flavor.checkpointing.states import restore, state_of

__all__ = ["AsyncCheckpointer", "Retention", "StepInfo", "restore", "state_of"]
