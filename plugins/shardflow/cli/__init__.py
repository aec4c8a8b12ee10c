"""The `shardflow` command: what a user types, and what comes back."""

from shardflow.cli.app import main

__all__ = ["main"]
