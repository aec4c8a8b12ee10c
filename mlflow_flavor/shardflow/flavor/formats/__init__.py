"""Checkpoint formats behind one interface: save tensors by name, load them all, or read a part of one.

from shardflow.flavor import formats
formats.save(model.state_dict(), "checkpoint", format="tensorstore-fast")
state = formats.load("checkpoint")
rows = formats.read("checkpoint", "lm_head.weight", slice(0, 100))
"""

from shardflow.flavor.formats.interface import Checkpoint, Format
from shardflow.flavor.formats.registry import DEFAULT, format_named, names
from shardflow.flavor.formats.saving import load, opened, read, save
from shardflow.flavor.formats.state import MemoryState, State

__all__ = [
    "DEFAULT",
    "Checkpoint",
    "Format",
    "MemoryState",
    "State",
    "format_named",
    "load",
    "names",
    "opened",
    "read",
    "save",
]
