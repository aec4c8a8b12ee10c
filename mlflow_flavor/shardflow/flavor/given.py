"""What a model is given as: a path may lead to a checkpoint of any format, which is opened and then read in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from shardflow.flavor.checkpoints import load_all_torch, weight_files
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats.places import in_store
from shardflow.flavor.formats.registry import DEFAULT, format_of
from shardflow.flavor.formats.saving import open_local, opened
from shardflow.flavor.formats.state import MemoryState, State
from shardflow.flavor.modules import tensors_of

_MODEL = "MLmodel"
_AS_FILES = {DEFAULT, "torch"}  # which are stored as they are, or mapped into memory


def opened_checkpoint(model: Any, stack: ExitStack) -> Any:
    """A path or URL as an open checkpoint, where a format has to read it; everything else as it is."""
    if isinstance(model, str | Path) and _needs_format(model):
        return stack.enter_context(opened(model))
    return model


def state_of(model: Any, stack: ExitStack, *, trust: bool = False, pickled: bool = False) -> State:
    """The tensors of a model that is to be stored in another format than the default."""
    if isinstance(model, torch.nn.Module):
        return MemoryState.of(tensors_of(model, pickled=pickled))
    if isinstance(model, Mapping):
        return MemoryState.of(model)
    if isinstance(model, State):
        return model
    files = weight_files(Path(model))
    if all(file.suffix == ".safetensors" for file in files):
        return stack.enter_context(open_local(Path(model), DEFAULT))
    return MemoryState.of(load_all_torch(files, trust=trust))


def _needs_format(place: str | Path) -> bool:
    if in_store(place) or (Path(place) / _MODEL).is_file():
        return True
    try:
        return format_of(Path(place)).name not in _AS_FILES
    except CheckpointUnusable:
        return False  # who looks for the files says what is missing
