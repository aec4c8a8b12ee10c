"""A module pickled without its weights: what is in the state dict is only named, and filled in when it is loaded."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping

import cloudpickle
import torch

from shardflow.errors import ShardflowError
from shardflow.flavor.errors import CheckpointUnusable, NotRebuildable, TrustRequired


def pickled_skeleton(module: torch.nn.Module) -> bytes:
    """Everything of a module but its parameters and persistent buffers."""
    out = io.BytesIO()
    names = {id(tensor): name for name, tensor in reversed(module.state_dict(keep_vars=True).items())}
    try:
        _Pickler(out, names).dump(module)
    except Exception as error:  # what is pickled may raise anything
        raise NotRebuildable(
            f"a {type(module).__name__} cannot be pickled: {error}",
            remedy="pass factory='package.module:function', or log model.state_dict()",
        ) from error
    return out.getvalue()


def load_skeleton(data: bytes, tensors: Mapping[str, torch.Tensor], *, name: str, trust: bool) -> torch.nn.Module:
    """The module, with these tensors in their places; tied parameters are one again."""
    if not trust:
        raise TrustRequired(
            f"{name} is a pickled module, and opening it runs code that came with the model",
            remedy="pass trust=True (model_config={'trust': True} for pyfunc) if you know who logged it",
        )
    try:
        module = _Unpickler(data, tensors).load()
    except ShardflowError:
        raise
    except Exception as error:  # what is pickled may raise anything
        raise CheckpointUnusable(
            f"{name} cannot be opened: {error}", remedy="install what the module is made of, or log the model again"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise CheckpointUnusable(f"{name} holds a {type(module).__name__}, not a module", remedy="log the model again")
    return module


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, names: Mapping[int, str]) -> None:
        super().__init__(file)
        self._names = names

    def persistent_id(self, each: object) -> tuple[str, bool, bool] | None:
        if not isinstance(each, torch.Tensor) or id(each) not in self._names:
            return None
        return self._names[id(each)], isinstance(each, torch.nn.Parameter), each.requires_grad


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(io.BytesIO(data))
        self._tensors = tensors
        self._made: dict[str, torch.Tensor] = {}

    def persistent_load(self, what: tuple[str, bool, bool]) -> torch.Tensor:
        name, is_parameter, requires_grad = what
        if name not in self._tensors:
            raise CheckpointUnusable(
                f"the weights have no {name}, which the module needs", remedy="log the model again"
            )
        if name not in self._made:
            tensor = self._tensors[name]
            self._made[name] = torch.nn.Parameter(tensor, requires_grad) if is_parameter else tensor
        return self._made[name]
