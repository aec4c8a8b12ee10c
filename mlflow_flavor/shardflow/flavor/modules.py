"""Takes the weights of a module, and gives a module those that are stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shardflow.flavor.errors import CheckpointUnusable, NotRebuildable


def tensors_of(module: torch.nn.Module, *, pickled: bool) -> dict[str, torch.Tensor]:
    """The tensors that a module keeps, by name; what else it keeps comes back with its pickle alone."""
    state = module.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    others = [name for name in state if name not in tensors]
    if others and not pickled:
        raise CheckpointUnusable(
            f"the module keeps more than tensors: {others[0]!r} is a {type(state[others[0]]).__name__}",
            remedy="pass trust=True and no factory, so that the module is pickled without its weights, "
            "or log its tensors as a state dict",
        )
    return tensors


def assign(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, strict: bool = True) -> torch.nn.Module:
    """Put tensors into a module in place of what it has; parameters that were one stay one.

    Parameters that have memory stay the objects they are, as an optimizer may know them.
    """
    ties = tied_names(module)
    before = {name: each for name, each in module.named_parameters(remove_duplicate=False) if name in tensors}
    try:
        module.load_state_dict(tensors, strict=strict, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise NotRebuildable(
            f"the weights do not fit the module: {reason}", remedy="rebuild it as it was when it was logged"
        ) from None
    for name, parameter in before.items():
        _keep(module, name, parameter)
    for names in ties:
        given = [name for name in names if name in tensors]
        for name in names if given else ():
            _set(module, name, module.get_parameter(given[0]))
    return module


def tied_names(module: torch.nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def _keep(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
    """Give a parameter that was replaced the new values, and its place back."""
    new = module.get_parameter(name)
    if parameter.is_meta or not torch._has_compatible_shallow_copy_type(parameter, new):  # noqa: SLF001  # as torch asks
        return
    parameter.data = new.data
    _set(module, name, parameter)


def _set(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, parameter)
