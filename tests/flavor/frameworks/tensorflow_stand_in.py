"""The few functions of TensorFlow that are used, for machines without it: with numpy, and a file of arrays.

What they return has the types, names and shapes that TensorFlow 2.21 returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

_models: list[Any] = []
_ENDING = "/.ATTRIBUTES/VARIABLE_VALUE"


class Tensor:
    def __init__(self, values: Any, dtype: Any = None) -> None:
        self.values = np.asarray(values, dtype)

    def numpy(self) -> Any:
        return self.values[()]

    def __add__(self, other: Tensor) -> Tensor:
        return Tensor(self.values + other.values)

    def __mul__(self, other: Tensor) -> Tensor:
        return Tensor(self.values * other.values)


class Variable(Tensor):
    def __init__(self, values: Any, name: str, trainable: bool = True) -> None:
        super().__init__(values.values if isinstance(values, Tensor) else values)
        if self.values.dtype.kind == "U":
            self.values = self.values.astype(object)
        if self.values.dtype == np.float64:
            self.values = self.values.astype(np.float32)
        self.name, self.trainable = f"{name}:0", trainable

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def assign(self, values: Any) -> None:
        self.values = np.array(values, self.values.dtype)


for kind in (Tensor, Variable):
    kind.__module__ = "tensorflow.stand_in"


class Module:
    @property
    def variables(self) -> list[Variable]:
        return [value for value in vars(self).values() if isinstance(value, Variable)]


class Spec(SimpleNamespace):
    """An argument of a function."""


def spec(shape: Any, dtype: Any, name: str) -> Spec:
    return Spec(shape=shape, dtype=dtype, name=name)


def function(input_signature: list[Spec]) -> Callable[[Any], Any]:
    def signed(work: Any) -> Any:
        def called(self: Any, *inputs: Any) -> Any:
            return work(self, *(each if isinstance(each, Tensor) else Tensor(each) for each in inputs))

        called.signature = input_signature  # type: ignore[attr-defined]
        return called

    return signed


def save(model: Module, place: str) -> None:
    directory = Path(place)
    (directory / "variables").mkdir(parents=True)
    paths = {name: value.values for name, value in vars(model).items() if isinstance(value, Variable)}
    stored = {f"{name}{_ENDING}": values for name, values in paths.items()}
    stored["_CHECKPOINTABLE_OBJECT_GRAPH"] = np.array(b"graph", object)
    _models.append((model, {name: np.array(values) for name, values in stored.items()}))
    (directory / "variables" / "variables.index").write_text(str(len(_models) - 1))
    (directory / "saved_model.pb").write_text(str(len(_models) - 1))


def load(place: str) -> Any:
    model = _models[int((Path(place) / "saved_model.pb").read_text())][0]
    signature = type(model).__call__.signature  # type: ignore[attr-defined]

    class Serving:
        structured_input_signature = ((), {each.name: each for each in signature})
        variables = tuple(model.variables)

        def __call__(self, **inputs: Any) -> dict[str, Tensor]:
            return {"output_0": model(*inputs.values())}

    return SimpleNamespace(signatures={"serving_default": Serving()})


def load_checkpoint(place: str) -> Any:
    index = Path(f"{place}.index").read_text()
    if not index:
        raise OpError("Checksum does not match")
    stored = _models[int(index)][1]
    return SimpleNamespace(
        get_variable_to_shape_map=lambda: {name: list(values.shape) for name, values in stored.items()},
        get_tensor=lambda name: stored[name][()],
    )


class OpError(Exception):
    """What TensorFlow raises."""


def flatten(answer: Any) -> Iterable[Any]:
    return answer if isinstance(answer, list) else [answer]


MODULE = SimpleNamespace(
    Module=Module,
    Variable=Variable,
    TensorSpec=spec,
    bfloat16=np.dtype(ml_dtypes.bfloat16),
    constant=Tensor,
    errors=SimpleNamespace(OpError=OpError),
    float32=np.dtype(np.float32),
    function=function,
    matmul=lambda left, right: Tensor(left.values @ right.values),
    nest=SimpleNamespace(flatten=flatten),
    saved_model=SimpleNamespace(save=save, load=load),
    train=SimpleNamespace(load_checkpoint=load_checkpoint),
    zeros=lambda shape, dtype=np.float32: Tensor(np.zeros(shape, dtype)),
)
