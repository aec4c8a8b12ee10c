"""Takes the state of what a training run is made of, and gives it back: modules, optimizers, random numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from shardflow.flavor.checkpointing.errors import StateMismatch

RNG = "rng"


@runtime_checkable
class Stateful(Protocol):
    """What torch's modules, optimizers, schedulers, scalers and data loaders have in common."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


def state_of(*, rng: bool = False, **parts: Any) -> dict[str, Any]:
    """The state of a run by name: `state_of(module=model, optimizer=optimizer, rng=True, epoch=3)`.

    A part that has a `state_dict` gives that; all others are values and are taken as they are. `rng` adds the
    generators of Python, numpy and torch. The tensors are those of the parts themselves, not copies.
    """
    state = {name: part.state_dict() if isinstance(part, Stateful) else part for name, part in parts.items()}
    return {**state, RNG: random_state()} if rng else state


def restore(state: Mapping[str, Any], *, rng: bool = False, strict: bool = True, **parts: Stateful) -> None:
    """The reverse: give each part its state, once all modules are known to fit; `strict` as in `load_state_dict`."""
    for name in [*parts, *([RNG] if rng else [])]:
        if name not in state:
            raise StateMismatch(f"the state has no {name}", remedy=f"it has {', '.join(state)}")
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            _check_fits(name, part, state[name], strict=strict)
    for name, part in parts.items():
        try:
            if isinstance(part, torch.nn.Module):
                part.load_state_dict(state[name], strict=strict)
            else:
                part.load_state_dict(state[name])
        except (ValueError, RuntimeError, KeyError) as error:
            why = " ".join(str(error).split())
            raise StateMismatch(f"{name} does not take its state: {why}", remedy="make it as it was saved") from error
    if rng:
        set_random_state(state[RNG])


def random_state() -> dict[str, Any]:
    """The generators of Python, numpy, torch and every GPU."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002  # the generator that others use
    return {**state, "cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Generators of GPUs that are not here are left out."""
    try:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002  # the generator that others use
        torch.set_rng_state(state["torch"])
        for device, each in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(each, device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StateMismatch(f"{RNG} is no state of random numbers: {error}", remedy="save it with rng=True") from None


def _check_fits(name: str, module: torch.nn.Module, state: Mapping[str, Any], *, strict: bool) -> None:
    """Name the first tensor that does not fit, which torch tells only after it has filled others."""
    own = module.state_dict()
    for tensor, target in own.items():
        where = f"{name}.{tensor}"
        if tensor not in state:
            if strict:
                raise StateMismatch(f"the state has no {where}, which the module needs", remedy=_OTHER)
        elif isinstance(target, torch.Tensor) and tuple(target.shape) != tuple(state[tensor].shape):
            raise StateMismatch(
                f"{where} is {list(state[tensor].shape)} in the state, and {list(target.shape)} in the module",
                remedy=_OTHER,
            )
    unknown = [tensor for tensor in state if tensor not in own]
    if unknown and strict:
        raise StateMismatch(
            f"the module has no {unknown[0]}, which the state has as {name}.{unknown[0]}", remedy=_OTHER
        )


_OTHER = "restore it into a module like the one that was saved"
