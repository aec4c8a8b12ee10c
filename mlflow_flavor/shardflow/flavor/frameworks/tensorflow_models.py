"""The variables of a TensorFlow SavedModel, where TensorFlow is installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shardflow.flavor.formats.bits import DTYPES, as_tensor
from shardflow.flavor.formats.errors import FormatUnavailable
from shardflow.flavor.frameworks.errors import ConversionFailed

_VARIABLES = ("variables", "variables")
_ENDING = "/.ATTRIBUTES/VARIABLE_VALUE"
_BOOKKEEPING = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")


def saved_model_state(source: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by the names of their variables, with dimensions in TensorFlow's order."""
    directory = Path(source)
    if not (directory / "saved_model.pb").is_file():
        raise ConversionFailed(f"{directory} is no SavedModel: it has no saved_model.pb")
    reader = _reader(directory)
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith(_BOOKKEEPING)]
    return {name.removesuffix(_ENDING): _tensor(reader.get_tensor(name), name, directory) for name in sorted(names)}


def _reader(directory: Path) -> Any:
    try:
        tensorflow: Any = import_module("tensorflow")
    except ImportError:
        raise FormatUnavailable(
            "a SavedModel can only be read with tensorflow, which is not installed", remedy="pip install tensorflow"
        ) from None
    try:
        return tensorflow.train.load_checkpoint(str(directory.joinpath(*_VARIABLES)))
    except (ValueError, RuntimeError, OSError, tensorflow.errors.OpError) as error:
        raise ConversionFailed(f"{directory} has variables that cannot be read: {error}") from None


def _tensor(values: Any, name: str, directory: Path) -> torch.Tensor:
    array = np.asarray(values)
    dtype = DTYPES.get(array.dtype.name)
    if dtype is None:
        raise ConversionFailed(f"{directory}: {name} has elements of type {array.dtype}, which is not known here")
    return as_tensor(np.ascontiguousarray(array), dtype)
