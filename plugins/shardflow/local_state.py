"""What is set on this machine: where Shardflow keeps its journal and its cache of chunks, and how much they take."""

from __future__ import annotations

import os
from pathlib import Path

from shardflow.errors import ShardflowError


def bytes_from(variable: str, default: int) -> int:
    """A number of bytes that the environment may set."""
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ShardflowError(f"{variable} is {text!r}", remedy="set it to a number of bytes")
    return int(text)


def state_directory() -> Path:
    """Small files that make interrupted work resume quickly; safe to delete."""
    return _directory("SHARDFLOW_STATE", "XDG_STATE_HOME", ".local/state")


def cache_directory() -> Path:
    """Verified chunks read from remote stores; safe to delete."""
    return _directory("SHARDFLOW_CACHE", "XDG_CACHE_HOME", ".cache")


def _directory(own: str, shared: str, default: str) -> Path:
    if os.environ.get(own):
        return Path(os.environ[own])
    base = os.environ.get(shared)
    try:
        return (Path(base) if base else Path.home() / default) / "shardflow"
    except RuntimeError:  # a user without a home, as containers have: nothing can be kept below a device
        return Path(os.devnull)
