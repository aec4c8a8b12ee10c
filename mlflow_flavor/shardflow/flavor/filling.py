"""Fills a module with stored weights layer by layer, in whatever order the caller asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
    """Give a module, which may be on the meta device, its weights; layers that are not asked for stay as they are."""
    layers = _layers(module, weights)
    asked = order(list(layers)) if order is not None else layers
    ties = {name: names for names in tied_names(module) for name in names}
    filled: set[str] = set()
    for layer in asked:
        if layer not in layers:
            raise NotRebuildable(f"the module has no layer {layer!r}", remedy=f"ask for one of {', '.join(layers)}")
        missing = [name for name in layers[layer] if name not in filled]
        assign(module, weights.read_all(missing, wanted, slices), strict=False)
        filled.update(other for name in missing for other in ties.get(name, [name]))
    return module


def _layers(module: torch.nn.Module, weights: StoredWeights | FormatWeights) -> dict[str, list[str]]:
    """The tensors that the module needs, by layer."""
    stored = set(weights.names())
    needed = module.state_dict(keep_vars=True)
    missing = [name for name in needed if name not in stored]
    if missing:
        raise NotRebuildable(
            f"{weights.folder.name} has no {missing[0]}, which the module needs",
            remedy="use the module it was made for",
        )
    layers: dict[str, list[str]] = {}
    for name in needed:
        layers.setdefault(layer_of(name), []).append(name)
    return layers
