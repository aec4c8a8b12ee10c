"""The variables of a Keras model, or another of TensorFlow, by name: filled from a module of torch, and read for one.

Both keep the kernels of dense layers and of convolutions with their dimensions in another order than torch: what is
called a kernel is turned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch

from shardflow.flavor.formats.bits import DTYPES, as_tensor
from shardflow.flavor.frameworks.agreement import Array, as_numpy
from shardflow.flavor.frameworks.errors import ConversionFailed, NotMapped

_KERNELS = {"kernel", "_kernel"}  # the second is what Keras 3 calls the attribute, and so TensorFlow the variable
_ORDERS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)}
"""Where each dimension of a kernel of Keras is found in torch's: the inputs and outputs come last, and swapped."""


def is_keras(model: Any) -> bool:
    """Whether it is a model of Keras; all other models of TensorFlow lack this method."""
    return hasattr(model, "export")


def variables_of(model: Any) -> dict[str, Any]:
    """Everything that is saved, by the names that an import finds it under; a random generator's state is no weight."""
    if not is_keras(model):
        named = [(variable.name.partition(":")[0], variable) for variable in model.variables]
    elif model.built:
        named = [(variable.path, variable) for variable in model.weights if "seed_generator" not in variable.path]
    else:
        raise ConversionFailed("the Keras model has no variables yet", remedy="build it, or call it once")
    found: dict[str, Any] = {}
    for name, variable in named:
        if name in found:
            raise NotMapped(f"two variables are called {name}", remedy="give each variable a name of its own")
        found[name] = variable
    return found


def answer_of(model: Any, example: Sequence[torch.Tensor]) -> Any:
    """What a model answers to the example, as it answers it and not as in training."""
    inputs = [as_numpy(value) for value in example]
    if is_keras(model):
        return model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    return model(*inputs)


@contextmanager
def filled(
    module: torch.nn.Module, variables: Mapping[str, Any], names: Mapping[str, str], what: str
) -> Iterator[None]:
    """The variables with the weights of a module while the block runs, and for good if that ends well."""
    require_mapped(variables, names, what)
    state = module.state_dict()
    with put_back_after_failure(variables.values()):
        for path, variable in variables.items():
            variable.assign(_turned(path, variable, state, names))
        yield


@contextmanager
def put_back_after_failure(variables: Iterable[Any]) -> Iterator[None]:
    """Variables that have their values of before if the block fails."""
    before = [(variable, value_of(variable)) for variable in variables]
    try:
        yield
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise


def require_mapped(variables: Mapping[str, Any], names: Mapping[str, str], what: str) -> None:
    for path in variables:
        if path not in names:
            raise NotMapped(f"names= does not say what {path} of {what} is in torch")
    for path in names:
        if path not in variables:
            raise NotMapped(f"{what} has no {path}", remedy=f"it has {', '.join(list(variables)[:5])}, ...")


def tensor_of(name: str, values: Array, source: object) -> torch.Tensor:
    """A variable's values as a tensor, dimensions as they are."""
    dtype = DTYPES.get(values.dtype.name)
    if dtype is None:
        raise ConversionFailed(f"{source}: {name} has elements of type {values.dtype}, which is not known here")
    return as_tensor(np.asarray(values, order="C"), dtype)


def turned_for_torch(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Variables by the same names, with their dimensions where torch has them."""
    return {name: _turned_back(name, values) for name, values in state.items()}


def _turned_back(name: str, values: torch.Tensor) -> torch.Tensor:
    order = _order(name, values.dim())
    return values.permute(sorted(range(len(order)), key=order.__getitem__)).contiguous()


def value_of(variable: Any) -> Array:
    """A copy, whichever framework Keras runs on."""
    if type(variable).__module__.startswith("tensorflow."):
        return np.array(variable.numpy())
    return np.array(import_module("keras").ops.convert_to_numpy(variable))


def _turned(path: str, variable: Any, state: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> Array:
    name = names[path]
    if name not in state:
        raise NotMapped(f"the module has no {name}, which names= gives for {path}")
    values = as_numpy(state[name])
    turned: Array = values.transpose(_order(path, values.ndim))
    if turned.shape != tuple(variable.shape):
        raise NotMapped(f"{name} is {values.shape} in torch, which does not fit {path}, {tuple(variable.shape)}")
    return turned


def _order(path: str, dimensions: int) -> tuple[int, ...]:
    if path.rpartition("/")[2] in _KERNELS and dimensions in _ORDERS:
        return _ORDERS[dimensions]
    return tuple(range(dimensions))
