"""What can go wrong with a checkpoint that many ranks write and read; damage is told as of any checkpoint."""

from __future__ import annotations

from shardflow.errors import ShardflowError


class CheckpointMissing(ShardflowError):
    """A URL at which there is no checkpoint, or none that was finished."""


class PlanUnusable(ShardflowError):
    """What a planner asks for, which cannot be stored, or not so."""
