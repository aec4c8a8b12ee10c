"""Gives a module the weights that are stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shardflow.flavor.errors import NotRebuildable


def assign(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, strict: bool = True) -> torch.nn.Module:
    """Put tensors into a module in place of what it has; parameters that were one stay one."""
    ties = tied_names(module)
    try:
        module.load_state_dict(tensors, strict=strict, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise NotRebuildable(
            f"the weights do not fit the module: {reason}", remedy="rebuild it as it was when it was logged"
        ) from None
    for names in ties:
        given = [name for name in names if name in tensors]
        for name in names if given else ():
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(given[0]))
    return module


def tied_names(module: torch.nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]
