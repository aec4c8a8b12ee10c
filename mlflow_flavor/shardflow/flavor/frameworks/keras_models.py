"""Weights of PyTorch modules to and from Keras: by a map of names, through Keras's own `.weights.h5` files.

A map says which tensor of torch each variable of Keras is: `{"dense/kernel": "linear.weight"}`.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.flavor.frameworks.agreement import TOLERANCE, Agreement, Array, outputs_of, require_agreement
from shardflow.flavor.frameworks.assigning import assigned
from shardflow.flavor.frameworks.errors import ConversionFailed
from shardflow.flavor.frameworks.hdf5_files import own_datasets, require_own_values
from shardflow.flavor.frameworks.variables import (
    answer_of,
    filled,
    put_back_after_failure,
    require_mapped,
    tensor_of,
    turned_for_torch,
    value_of,
    variables_of,
)
from shardflow.store.errors import TargetUnusable

ENDING = ".weights.h5"
_WHAT = "the Keras model"


@contextmanager
def _without_its_warnings() -> Iterator[None]:
    """Keras turns its variables into arrays in a way that numpy has begun to warn of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


@_without_its_warnings()
def export_keras(
    module: torch.nn.Module,
    keras_model: Any,
    target: str | Path,
    names: Mapping[str, str],
    example: Sequence[torch.Tensor],
    *,
    tolerance: float = TOLERANCE,
    replace: bool = False,
) -> Agreement:
    """Give a built Keras model the weights of a module, run both, and save them as `.weights.h5`.

    The model keeps the weights only if both agree.
    """
    file = _checked(target)
    with filled(module, variables_of(keras_model), names, _WHAT):
        wanted, found = outputs_of(module, example), _answers(keras_model, example)
        made = require_agreement(wanted, found, tolerance, f"{type(module).__name__} and {_WHAT}")
        _save(keras_model, file, replace=replace)
        return made
    raise AssertionError("what is filled lets errors through")


@_without_its_warnings()
def import_keras(
    source: str | Path,
    keras_model: Any,
    module: torch.nn.Module,
    names: Mapping[str, str],
    example: Sequence[torch.Tensor],
    *,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Load `.weights.h5` into the Keras model it belongs to, from there into a module, and run both.

    If they do not agree, both are left as they were.
    """
    variables = variables_of(keras_model)
    require_mapped(variables, names, _WHAT)
    require_own_values(source)
    with put_back_after_failure(_all_variables(keras_model)):
        try:
            keras_model.load_weights(str(source))
        except (OSError, ValueError) as error:
            raise ConversionFailed(f"{source} does not fit the Keras model: {str(error).splitlines()[0]}") from None
        values = {path: tensor_of(path, value_of(variable), source) for path, variable in variables.items()}
        state = {names[path]: value for path, value in turned_for_torch(values).items()}
        with assigned(module, state, {}, str(source)):
            found = _answers(keras_model, example)
            return require_agreement(outputs_of(module, example), found, tolerance, f"{source} and the module")
    raise AssertionError("what is assigned lets errors through")


def keras_state(source: str | Path) -> dict[str, torch.Tensor]:
    """What a `.weights.h5` file holds, by the paths it has there and as Keras keeps it; Keras itself is not needed."""
    with own_datasets(source) as found:
        return {path: tensor_of(path, np.asarray(item[()]), source) for path, item in found.items()}
    raise AssertionError("what opens a file lets errors through")


def _save(keras_model: Any, file: Path, *, replace: bool) -> None:
    """Under another name first: what is there is whole, or not there."""
    if file.exists() and not replace:
        raise CheckpointExists(f"{file} exists", remedy="save to another path, or say that it is to be replaced")
    try:
        with tempfile.TemporaryDirectory(prefix=".shardflow-", dir=file.parent) as made:
            part = Path(made) / file.name
            keras_model.save_weights(str(part))
            part.replace(file)
    except OSError as error:
        raise TargetUnusable(
            f"{file} cannot be written: {error.strerror or error}", remedy="make room for it"
        ) from None


def _all_variables(keras_model: Any) -> list[Any]:
    """What a file of weights is loaded into: the state of random generators too, and that of an optimizer."""
    return [*keras_model.variables, *getattr(getattr(keras_model, "optimizer", None), "variables", ())]


def _answers(keras_model: Any, example: Sequence[torch.Tensor]) -> list[Array]:
    answer = answer_of(keras_model, example)
    return [value_of(each) for each in (answer if isinstance(answer, (list, tuple)) else [answer])]


def _checked(target: str | Path) -> Path:
    file = Path(target)
    if not file.name.endswith(ENDING):
        raise ConversionFailed(f"{file} does not end in {ENDING}", remedy="Keras wants it to")
    return file
