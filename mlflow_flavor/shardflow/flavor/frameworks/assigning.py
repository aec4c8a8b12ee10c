"""Gives a module the weights of another framework by name, turned where that keeps them turned, and takes them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from shardflow.flavor.frameworks.errors import NotMapped

COUNTED = "num_batches_tracked"  # which only torch keeps


@contextmanager
def assigned(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor], names: Mapping[str, str], source: str
) -> Iterator[None]:
    """The module filled while the block runs, and for good if that ends well."""
    own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    made = {name: _matching(name, tensor, state, names, source) for name, tensor in own.items()}
    module.load_state_dict(made)
    try:
        yield
    except BaseException:
        module.load_state_dict(own)
        raise


def _matching(
    name: str, own: torch.Tensor, state: Mapping[str, torch.Tensor], names: Mapping[str, str], source: str
) -> torch.Tensor:
    theirs = names.get(name, name)
    if theirs not in state:
        if name.endswith(COUNTED):
            return own
        raise NotMapped(
            f"{source} has no {theirs}, which the module needs",
            remedy=f"say in names= what {name} is called there; it has {', '.join(list(state)[:5])}, ...",
        )
    found = state[theirs]
    if found.shape == own.shape:
        return found
    if found.dim() == 2 and found.T.shape == own.shape:
        return found.T
    raise NotMapped(
        f"{name} of the module is {tuple(own.shape)}, {theirs} of {source} is {tuple(found.shape)}",
        remedy="use the module it was made for",
    )
