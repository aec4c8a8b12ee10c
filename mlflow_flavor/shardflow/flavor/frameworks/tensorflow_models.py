"""Weights of PyTorch modules to and from TensorFlow's SavedModel, where TensorFlow is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shardflow.flavor.formats.errors import FormatUnavailable
from shardflow.flavor.formats.places import written_to_directory
from shardflow.flavor.frameworks.agreement import TOLERANCE, Agreement, Array, as_numpy, outputs_of, require_agreement
from shardflow.flavor.frameworks.assigning import assigned
from shardflow.flavor.frameworks.errors import ConversionFailed
from shardflow.flavor.frameworks.variables import (
    answer_of,
    filled,
    is_keras,
    tensor_of,
    turned_for_torch,
    value_of,
    variables_of,
)

SIGNATURE = "serving_default"
_VARIABLES = ("variables", "variables")
_ENDING = "/.ATTRIBUTES/VARIABLE_VALUE"
_BOOKKEEPING = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")
_NO_NUMBERS = "OSU"  # kinds of numpy's types: vocabularies are variables too


def saved_model_state(source: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by the paths of their variables, with dimensions as TensorFlow has them; texts are left out."""
    directory = _checked(source)
    reader = _loaded(directory, lambda tf: tf.train.load_checkpoint(str(directory.joinpath(*_VARIABLES))))
    names = [name for name in sorted(reader.get_variable_to_shape_map()) if not name.startswith(_BOOKKEEPING)]
    arrays = {name.removesuffix(_ENDING): np.asarray(reader.get_tensor(name)) for name in names}
    numbers = {name: array for name, array in arrays.items() if array.dtype.kind not in _NO_NUMBERS}
    return {name: tensor_of(name, array, directory) for name, array in numbers.items()}


def import_saved_model(
    source: str | Path,
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    *,
    names: Mapping[str, str] | None = None,
    signature: str = SIGNATURE,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Fill a module with the variables of a SavedModel, and run both on the example.

    `names` says what the module's tensors are called there: by the names of variables, as `dense/kernel`, or by their
    paths, as `saved_model_state` has them. Kernels are turned. The example goes to the arguments of the signature in
    the order of their names. If the two do not agree, the module is left as it was.
    """
    directory = _checked(source)
    model = _loaded(directory, lambda tf: tf.saved_model.load(str(directory)))
    function = _signature(model, signature, directory)
    found = _run(function, signature, example, directory)
    state = turned_for_torch(_by_all_names(function, directory))
    with assigned(module, state, names or {}, str(source)):
        return require_agreement(outputs_of(module, example), found, tolerance, f"{source} and the module")
    raise AssertionError("what is assigned lets errors through")


def export_saved_model(
    module: torch.nn.Module,
    model: Any,
    target: str | Path,
    names: Mapping[str, str],
    example: Sequence[torch.Tensor],
    *,
    tolerance: float = TOLERANCE,
    replace: bool = False,
) -> Agreement:
    """Give a tf.Module, or a Keras model that runs on TensorFlow, the weights of a module, run both, and save it.

    `names` says which tensor of the module each variable is: `{"dense/kernel": "linear.weight"}`. The model keeps the
    weights, and the directory appears, only if both agree.
    """
    what = f"the {type(model).__name__}"
    with filled(module, variables_of(model), names, what), written_to_directory(Path(target), replace=replace) as made:
        wanted, found = outputs_of(module, example), _answers(model, example)
        agreed = require_agreement(wanted, found, tolerance, f"{type(module).__name__} and {what}")
        _save(model, made)
        return agreed
    raise AssertionError("what is filled lets errors through")


def _save(model: Any, directory: Path) -> None:
    if is_keras(model):
        model.export(str(directory), verbose=False)
    else:
        _tensorflow().saved_model.save(model, str(directory))


def _answers(model: Any, example: Sequence[torch.Tensor]) -> list[Array]:
    return [value_of(each) for each in _tensorflow().nest.flatten(answer_of(model, example))]


def _signature(model: Any, signature: str, directory: Path) -> Any:
    if signature not in model.signatures:
        known = ", ".join(model.signatures) or "none"
        raise ConversionFailed(f"{directory} has no signature {signature}", remedy=f"it has {known}: name one")
    return model.signatures[signature]


def _run(function: Any, signature: str, example: Sequence[torch.Tensor], directory: Path) -> list[Array]:
    """What a SavedModel answers."""
    arguments = function.structured_input_signature[1]
    if len(arguments) != len(example):
        raise ConversionFailed(
            f"{signature} of {directory} takes {', '.join(sorted(arguments))}, and {len(example)} tensors are given"
        )
    tensors = {
        name: _tensorflow().constant(as_numpy(value), dtype=arguments[name].dtype)
        for name, value in zip(sorted(arguments), example, strict=True)
    }
    answer = function(**tensors)
    return [value_of(answer[name]) for name in sorted(answer)]


def _by_all_names(function: Any, directory: Path) -> dict[str, torch.Tensor]:
    """The variables by their paths, and those that the function uses by their names where these are unique."""
    state = saved_model_state(directory)
    named = [(variable.name.partition(":")[0], value_of(variable)) for variable in function.variables]
    names = [name for name, _ in named]
    for name, values in named:
        if names.count(name) == 1 and name not in state and values.dtype.kind not in _NO_NUMBERS:
            state[name] = tensor_of(name, values, directory)
    return state


def _checked(source: str | Path) -> Path:
    directory = Path(source)
    if not (directory / "saved_model.pb").is_file():
        raise ConversionFailed(f"{directory} is no SavedModel: it has no saved_model.pb")
    return directory


def _loaded(directory: Path, load: Callable[[Any], Any]) -> Any:
    tensorflow = _tensorflow()
    try:
        return load(tensorflow)
    except (ValueError, RuntimeError, OSError, tensorflow.errors.OpError) as error:
        why = " ".join(str(error).split())
        raise ConversionFailed(f"{directory} cannot be read: {why}", remedy="save it again") from None


def _tensorflow() -> Any:
    try:
        return import_module("tensorflow")
    except ImportError:
        raise FormatUnavailable(
            "a SavedModel needs tensorflow, which is not installed", remedy="pip install tensorflow"
        ) from None
