"""Weights of PyTorch modules to and from Keras: by a map of names, through Keras's own `.weights.h5` files.

A map says which tensor of torch each variable of Keras is: `{"dense/kernel": "linear.weight"}`. Keras keeps the kernels
of dense layers and of convolutions with their dimensions in another order; what is called a kernel is turned.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from shardflow.flavor.formats.bits import DTYPES, as_tensor
from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.flavor.frameworks.agreement import (
    TOLERANCE,
    Agreement,
    Array,
    as_numpy,
    outputs_of,
    require_agreement,
)
from shardflow.flavor.frameworks.assigning import assigned
from shardflow.flavor.frameworks.errors import ConversionFailed, NotMapped
from shardflow.store.errors import TargetUnusable

ENDING = ".weights.h5"
_ORDERS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)}
"""Where each dimension of a kernel of Keras is found in torch's: the inputs and outputs come last, and swapped."""


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
    state = module.state_dict()
    variables = _variables(keras_model)
    before = {path: _value(variable) for path, variable in variables.items()}
    _require_mapped(variables, names)
    try:
        for path, variable in variables.items():
            variable.assign(_for_keras(path, variable, state, names))
        wanted, found = outputs_of(module, example), _answers(keras_model, example)
        made = require_agreement(wanted, found, tolerance, f"{type(module).__name__} and the Keras model")
        _save(keras_model, file, replace=replace)
    except BaseException:
        for path, variable in variables.items():
            variable.assign(before[path])
        raise
    return made


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

    If they do not agree, the module is left as it was.
    """
    try:
        keras_model.load_weights(str(source))
    except (OSError, ValueError) as error:
        raise ConversionFailed(f"{source} does not fit the Keras model: {str(error).splitlines()[0]}") from None
    variables = _variables(keras_model)
    _require_mapped(variables, names)
    state = {names[path]: _for_torch(path, variable) for path, variable in variables.items()}
    with assigned(module, state, {}, str(source)):
        found = _answers(keras_model, example)
        return require_agreement(outputs_of(module, example), found, tolerance, f"{source} and the module")
    raise AssertionError("what is assigned lets errors through")


def keras_state(source: str | Path) -> dict[str, torch.Tensor]:
    """What a `.weights.h5` file holds, by the paths it has there and as Keras keeps it; Keras itself is not needed."""
    found: dict[str, torch.Tensor] = {}

    def take(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item[()])
            dtype = DTYPES.get(values.dtype.name)
            if dtype is None:
                raise ConversionFailed(f"{source}: {path} has elements of type {values.dtype}, which is not known here")
            found[path] = as_tensor(values, dtype)

    try:
        with h5py.File(source, "r") as file:
            file.visititems(take)
    except OSError as error:
        raise ConversionFailed(f"{source} cannot be read as HDF5: {str(error).splitlines()[0]}") from None
    return found


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


def _variables(keras_model: Any) -> dict[str, Any]:
    """Everything that is saved; the state of random generators is no weight."""
    if not keras_model.built:
        raise ConversionFailed("the Keras model has no variables yet", remedy="build it, or call it once")
    return {variable.path: variable for variable in keras_model.weights if "seed_generator" not in variable.path}


def _require_mapped(variables: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for path in variables:
        if path not in names:
            raise NotMapped(f"names= does not say what {path} of the Keras model is in torch")
    for path in names:
        if path not in variables:
            raise NotMapped(f"the Keras model has no {path}", remedy=f"it has {', '.join(list(variables)[:5])}, ...")


def _for_keras(path: str, variable: Any, state: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> Array:
    name = names[path]
    if name not in state:
        raise NotMapped(f"the module has no {name}, which names= gives for {path}")
    values = as_numpy(state[name])
    turned = values.transpose(_order(path, values.ndim))
    if turned.shape != tuple(variable.shape):
        raise NotMapped(f"{name} is {values.shape} in torch, which does not fit {path}, {tuple(variable.shape)}")
    return turned


def _for_torch(path: str, variable: Any) -> torch.Tensor:
    values = _value(variable)
    back = np.argsort(_order(path, values.ndim))
    return torch.from_numpy(np.ascontiguousarray(values.transpose(back)))


def _order(path: str, dimensions: int) -> tuple[int, ...]:
    if path.rpartition("/")[2] == "kernel" and dimensions in _ORDERS:
        return _ORDERS[dimensions]
    return tuple(range(dimensions))


def _value(variable: Any) -> Array:
    """A copy, whichever framework Keras runs on."""
    return np.array(import_module("keras").ops.convert_to_numpy(variable))


def _answers(keras_model: Any, example: Sequence[torch.Tensor]) -> list[Array]:
    inputs = [as_numpy(value) for value in example]
    answer = keras_model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    return [_value(each) for each in (answer if isinstance(answer, (list, tuple)) else [answer])]


def _checked(target: str | Path) -> Path:
    file = Path(target)
    if not file.name.endswith(ENDING):
        raise ConversionFailed(f"{file} does not end in {ENDING}", remedy="Keras wants it to")
    return file
