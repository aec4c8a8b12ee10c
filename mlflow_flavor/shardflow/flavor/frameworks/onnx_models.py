"""PyTorch modules to ONNX models and back: the graph from `torch.onnx`, the weights in a file beside it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import load_external_data_for_model

from shardflow.flavor.formats.bits import DTYPES, as_tensor
from shardflow.flavor.formats.places import written_to_directory
from shardflow.flavor.frameworks.agreement import (
    TOLERANCE,
    Agreement,
    Array,
    as_numpy,
    outputs_of,
    require_agreement,
)
from shardflow.flavor.frameworks.assigning import assigned
from shardflow.flavor.frameworks.errors import ConversionFailed
from shardflow.flavor.modes import in_evaluation

FILE = "model.onnx"
_OPERATOR = re.compile(
    r"No ONNX function found for <OpOverload\(op='([^']+)'"
    r"|No Op registered for (\w+)|(\w+)\(-?\d+\) is not a registered"
)
_LOUD = ("torch.onnx", "torch.export", "onnxscript")


def export_onnx(
    module: torch.nn.Module,
    target: str | Path,
    example: Sequence[torch.Tensor],
    *,
    dynamic_shapes: Any = None,
    tolerance: float = TOLERANCE,
    replace: bool = False,
) -> Agreement:
    """Write a directory with `model.onnx` and its weights; it appears once both have answered the example alike.

    Weights keep their names, so that they can be found again. `dynamic_shapes` is that of `torch.onnx.export`.
    """
    wanted = outputs_of(module, example)
    with written_to_directory(Path(target), replace=replace) as directory:
        _export(module, directory / FILE, example, dynamic_shapes)
        found = _run(directory / FILE, example)
        return require_agreement(wanted, found, tolerance, f"{type(module).__name__} and its ONNX model")
    raise AssertionError("a directory that is written lets errors through")


def import_onnx(
    source: str | Path,
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    *,
    names: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Fill a module with the weights of an ONNX model, and run both on the example.

    `names` says what the module's tensors are called in the model, where they are called otherwise. A weight that is
    stored transposed there is turned. If the two do not agree, the module is left as it was.
    """
    file = _file(source)
    found = _run(file, example)
    with assigned(module, onnx_state(file), names or {}, str(source)):
        return require_agreement(outputs_of(module, example), found, tolerance, f"{source} and the module")
    raise AssertionError("what is assigned lets errors through")


def onnx_state(source: str | Path) -> dict[str, torch.Tensor]:
    """The weights of an ONNX model, by the names they have there."""
    file = _file(source)
    model = _model(file)
    return {held.name: _tensor(held, file) for held in model.graph.initializer}


def _export(module: torch.nn.Module, file: Path, example: Sequence[torch.Tensor], dynamic_shapes: Any) -> None:
    try:
        with warnings.catch_warnings(), _quiet(), in_evaluation(module):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(example),
                str(file),
                dynamo=True,
                external_data=True,
                optimize=False,  # which would fold weights into others, and lose their names
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, torch.onnx.errors.OnnxExporterError) as error:
        raise _unsupported(f"{type(module).__name__} cannot be exported to ONNX", str(error)) from None


def _run(file: Path, example: Sequence[torch.Tensor]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        fed = _named([wanted.name for wanted in session.get_inputs()], example, file)
        return [np.asarray(answer) for answer in session.run(None, fed)]
    except ConversionFailed:
        raise
    except Exception as error:  # noqa: BLE001  # those of onnxruntime have no class in common
        raise _unsupported(f"{file} cannot be run", str(error)) from None


def _named(names: Sequence[str], example: Sequence[torch.Tensor], file: Path) -> dict[str, Array]:
    if len(names) != len(example):
        raise ConversionFailed(f"{file} takes {', '.join(names)}, but the example has {len(example)} inputs")
    return {name: as_numpy(value) for name, value in zip(names, example, strict=True)}


def _model(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(file), load_external_data=False)
        onnx.checker.check_model(str(file))
        load_external_data_for_model(model, str(file.parent))
    except FileNotFoundError as error:
        raise ConversionFailed(f"{file} cannot be read: {error.strerror}", remedy="name an ONNX model") from None
    except Exception as error:  # noqa: BLE001  # nor have those of onnx and protobuf
        raise ConversionFailed(f"{file} is no sound ONNX model: {str(error).strip().splitlines()[0]}") from None
    return model


def _tensor(held: onnx.TensorProto, file: Path) -> torch.Tensor:
    values = onnx.numpy_helper.to_array(held)
    dtype = DTYPES.get(values.dtype.name)
    if dtype is None:
        raise ConversionFailed(f"{file}: {held.name} has elements of type {values.dtype}, which is not known here")
    return as_tensor(np.ascontiguousarray(values), dtype).reshape(tuple(held.dims))


def _unsupported(what: str, why: str) -> ConversionFailed:
    found = _OPERATOR.search(why)
    operator = next((group for group in found.groups() if group), "") if found else ""
    if operator:
        return ConversionFailed(f"{what}: the operator {operator} is not supported", remedy="replace it by others")
    last = [line.strip() for line in why.splitlines() if line.strip()] or ["it does not say why"]
    return ConversionFailed(f"{what}: {last[0]}", remedy="look at the model that it was made from")


def _file(source: str | Path) -> Path:
    path = Path(source)
    return path / FILE if path.is_dir() else path


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter logs about packages that it could use."""
    before = {name: logging.getLogger(name).level for name in _LOUD}
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
