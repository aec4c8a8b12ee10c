"""What can go wrong with a checkpoint in one of the formats; each names the tensor where there is one."""

from __future__ import annotations

from shardflow.errors import CorruptData, ShardflowError


class FormatUnavailable(ShardflowError):
    """A format that does not exist, or whose library is not installed."""


class CheckpointDamaged(CorruptData):
    """A part of a checkpoint is missing, or is not what was written."""


class CheckpointExists(ShardflowError):
    """A checkpoint was to be written where something is."""
