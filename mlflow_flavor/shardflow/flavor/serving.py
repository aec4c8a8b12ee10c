"""A model as MLflow's pyfunc sees it: arrays and tables in, arrays and tables out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from shardflow.flavor.errors import TensorUnusable


class Predictor:
    """Wraps a module for `mlflow.pyfunc`."""

    def __init__(self, module: torch.nn.Module, device: torch.device | None = None) -> None:
        self._module = module.eval()
        self._device = device or torch.device("cpu")

    def get_raw_model(self) -> torch.nn.Module:
        return self._module

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Call the module; a table becomes an array of its values, a dict of arrays named arguments."""
        options = dict(params or {})
        with torch.no_grad():
            if isinstance(data, pd.DataFrame):
                made = self._module(self._tensor(_values(data)), **options)
            elif isinstance(data, Mapping):
                made = self._module(**{name: self._tensor(value) for name, value in data.items()}, **options)
            else:
                made = self._module(self._tensor(data), **options)
        result = _plain(made)
        if not isinstance(data, pd.DataFrame) or not isinstance(result, np.ndarray):
            return result
        if result.ndim in (1, 2) and len(result) == len(data):
            return pd.DataFrame(result, index=data.index)
        return result

    def _tensor(self, value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value.to(self._device)
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.kind in "USV":
            raise TensorUnusable(
                f"input of type {array.dtype} cannot become a tensor", remedy="pass numbers: arrays, tables, or a dict"
            )
        return torch.tensor(array, device=self._device)


def _values(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[Any]]:
    """Whole numbers stay so, all else becomes float32, as torch expects."""
    whole = all(dtype.kind in "iub" for dtype in table.dtypes)
    values: np.ndarray[Any, np.dtype[Any]] = table.to_numpy(dtype=None if whole else np.float32)
    return values


def _plain(made: Any) -> Any:
    """Torch's results as numpy's, whatever they are in."""
    if isinstance(made, torch.Tensor):
        cpu = made.detach().cpu()
        return (cpu.float() if cpu.dtype == torch.bfloat16 else cpu).numpy()
    if isinstance(made, Mapping):
        return {name: _plain(value) for name, value in made.items()}
    if isinstance(made, list | tuple):
        return [_plain(value) for value in made]
    return made
