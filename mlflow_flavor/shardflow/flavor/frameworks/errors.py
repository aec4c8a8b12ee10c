"""What can go wrong between one framework and another."""

from __future__ import annotations

from shardflow.errors import ShardflowError


class ConversionFailed(ShardflowError):
    """A model that another framework has no words for, or a file that is no model."""


class NotMapped(ShardflowError):
    """A tensor of one framework that has no counterpart in the other."""
