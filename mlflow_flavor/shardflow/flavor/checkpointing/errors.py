"""What can go wrong between a training state and the step it is stored as."""

from __future__ import annotations

from shardflow.errors import CorruptData, ShardflowError


class StateUnusable(ShardflowError):
    """A part of a state that cannot be stored without running code when it is loaded."""


class StateMismatch(ShardflowError):
    """A stored state that does not fit the objects it is to go into."""


class StepMissing(ShardflowError):
    """A step that is not stored, or not to its end."""


class StepTaken(ShardflowError):
    """A step that is stored already."""


class CheckpointDamaged(CorruptData):
    """A checkpoint whose files are not those that were written."""


class StoringFailed(ShardflowError):
    """A store that does not take all of a checkpoint: its disk is full, or it cannot be reached."""


class SaveFailed(ShardflowError):
    """A step that could not be stored in the background."""


class Closed(ShardflowError):
    """A checkpointer that is used after its end."""
