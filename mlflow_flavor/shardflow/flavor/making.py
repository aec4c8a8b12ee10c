"""Makes a module without memory for its weights, where all that it has comes back with them.

On the meta device tensors have shapes and nothing in them. That suits what is filled afterwards; what a module keeps
besides, in a list for instance, would stay empty, and torch computes with such tensors as if they were full.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def made_without_weights(make: Callable[[], torch.nn.Module]) -> torch.nn.Module | None:
    """A module on the meta device; None if it has to be made for real."""
    with torch.device("meta"), _Followed() as followed:
        try:
            module = make()
        except Exception:  # noqa: BLE001  # what else may be wrong shows when it is made for real
            return None  # it looked at values
    stored = {id(tensor) for tensor in module.state_dict(keep_vars=True).values()}
    everything = [*_of(module), *followed.alive()]
    return None if any(tensor.is_meta and id(tensor) not in stored for tensor in everything) else module


def _of(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that a module knows by name."""
    yield from module.buffers()
    for owner in module.modules():
        yield from (value for value in vars(owner).values() if isinstance(value, torch.Tensor))


class _Followed(TorchDispatchMode):
    """Knows which of the tensors that were made meanwhile somebody has kept."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[weakref.ref[torch.Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep its compiler away, torch would import it, for a second and a half of every first load."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._made += [weakref.ref(each) for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        return result

    def alive(self) -> Iterator[torch.Tensor]:
        yield from (tensor for made in self._made if (tensor := made()) is not None)
