"""What can go wrong between a model and the files it is stored in."""

from __future__ import annotations

from shardflow.errors import CorruptData, ShardflowError


class TensorUnusable(ShardflowError):
    """A tensor whose values cannot be written as they are."""


class CheckpointUnusable(ShardflowError):
    """A file or directory that holds no weights this flavor can read."""


class ModelMissing(ShardflowError):
    """A URI that leads to no model."""


class ShardMissing(ShardflowError):
    """A file that a model's index names is gone."""


class ShardAltered(CorruptData):
    """A file of a model is not the one that was logged."""


class NotRebuildable(ShardflowError):
    """Weights without a way to make the module they belong to."""


class TrustRequired(ShardflowError):
    """Something that runs code when it is opened, which only the caller can allow."""
