"""Fills a module with stored weights layer by layer, in whatever order the caller asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from shardflow.flavor.errors import NotRebuildable
from shardflow.flavor.formats.models import FormatWeights
from shardflow.flavor.modules import assign, tied_names
from shardflow.flavor.parts import layer_of
from shardflow.flavor.reading import Wanted
from shardflow.flavor.slicing import Slices
from shardflow.flavor.stored_weights import StoredWeights

Order = Callable[[Sequence[str]], Iterable[str]]
"""Is given the names of all layers, and yields them as it wants them filled: each is before the next is asked for."""


def fill(
    module: torch.nn.Module,
    weights: StoredWeights | FormatWeights,
    *,
    order: Order | None = None,
    wanted: Wanted | None = None,
    slices: Slices | None = None,
) -> torch.nn.Module:
    """Give a module, which may be on the meta device, its weights; layers that are not asked for stay as they are.

    Tensors that have memory stay of their type and on their device, unless something else is wanted.
    """
    needed = _needed(module, weights)
    layers = _layers(needed)
    asked = order(list(layers)) if order is not None else layers
    ties = {name: names for names in tied_names(module) for name in names}
    filled: set[str] = set()
    for layer in asked:
        if layer not in layers:
            raise NotRebuildable(f"the module has no layer {layer!r}", remedy=f"ask for one of {', '.join(layers)}")
        missing = [name for name in layers[layer] if name not in filled]
        tensors: dict[str, torch.Tensor] = {}
        for as_wanted, names in _alike({name: needed[name] for name in missing}, wanted or Wanted()).items():
            tensors |= weights.read_all(names, as_wanted, slices)
        assign(module, tensors, strict=False)
        filled.update(other for name in missing for other in ties.get(name, [name]))
    return module


def _needed(module: torch.nn.Module, weights: StoredWeights | FormatWeights) -> dict[str, torch.Tensor]:
    """The tensors of the module, all of which are stored; what else its state dict has, stays as it is."""
    stored = set(weights.names())
    state = module.state_dict(keep_vars=True)
    needed = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    missing = [name for name in needed if name not in stored]
    if missing:
        raise NotRebuildable(
            f"{weights.folder.name} has no {missing[0]}, which the module needs",
            remedy="use the module it was made for",
        )
    return needed


def _layers(names: Iterable[str]) -> dict[str, list[str]]:
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(layer_of(name), []).append(name)
    return layers


def _alike(targets: Mapping[str, torch.Tensor], wanted: Wanted) -> dict[Wanted, list[str]]:
    """Names of tensors, by what is to be read for them."""
    found: dict[Wanted, list[str]] = {}
    for name, target in targets.items():
        found.setdefault(_as_it_is(target, wanted), []).append(name)
    return found


def _as_it_is(target: torch.Tensor, wanted: Wanted) -> Wanted:
    if target.is_meta:
        return wanted
    own_type = target.dtype if target.is_floating_point() else None
    return replace(wanted, dtype=wanted.dtype or own_type, device=wanted.device or target.device)
