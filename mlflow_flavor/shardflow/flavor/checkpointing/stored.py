"""Reads a stored step back: into new memory, or into the tensors of a state that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import torch

from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.errors import StateMismatch
from shardflow.flavor.checkpointing.steps import TREE_FILE, Steps
from shardflow.flavor.checkpointing.trees import decode_tree, flatten, tensors_by_place, unflatten
from shardflow.flavor.checkpointing.values import Node
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.header import read_header
from shardflow.flavor.reading import TensorReader, Wanted
from shardflow.flavor.slicing import box_of
from shardflow.flavor.torch_types import TORCH_TYPES

_OTHER = "load it into what it was saved from, or without into"


def load_step(steps: Steps, number: int, into: Any = None) -> Any:
    """The state of a step; tensors that `into` has are filled where they are, and are part of what is returned."""
    marker = steps.marker(number)
    name = f"step {number} of {steps.name}"
    folder = StoreFolder(steps.store, steps.path_of(number, marker.directory))
    with ExitStack() as stack:
        readers: dict[str, TensorReader] = {}
        tree = None
        for file in marker.files:
            opened = files.opened(folder, file, name)
            stack.callback(opened.close)
            if file.name == TREE_FILE:
                tree = decode_tree(opened.read_at(0, opened.size), f"{name}: {TREE_FILE}")
                continue
            header = read_header(opened.read_at, opened.size, f"{name}: {file.name}")
            for tensor, entry in header.entries.items():
                readers[tensor] = TensorReader(f"{name}: {tensor}", opened, entry)
        return unflatten(tree, _read(readers, _targets(into, tree, readers, name), folder.at_once), name)


def _targets(into: Any, tree: Node, readers: Mapping[str, TensorReader], name: str) -> dict[str, torch.Tensor]:
    """The tensors to fill by stored name; all of them are known to fit before the first one is touched."""
    if into is None:
        return {}
    flat = flatten(into, "into")
    targets: dict[str, torch.Tensor] = {}
    for tensor, own in _paired(tree, flat.tree, name).items():
        target = flat.tensors[own]
        if tensor not in readers:
            raise StateMismatch(f"{name} has no {own}", remedy=_OTHER)
        entry = readers[tensor].entry
        stored = TORCH_TYPES[entry.dtype]
        if tuple(target.shape) != entry.shape or target.dtype != stored:
            raise StateMismatch(
                f"{own} of {name} is {stored} {list(entry.shape)}, and is to go into {target.dtype} "
                f"{list(target.shape)}",
                remedy=_OTHER,
            )
        targets[tensor] = target
    return targets


def _paired(tree: Node, into: Node, name: str) -> dict[str, str]:
    """Which tensor of `into` has the place of each stored one; their names differ where two keys read alike."""
    stored = tensors_by_place(tree)
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for place, own in tensors_by_place(into).items():
        if place not in stored:
            raise StateMismatch(f"{name} has no {own}", remedy=_OTHER)
        tensor = stored[place]
        if pairs.get(tensor, own) != own:
            raise StateMismatch(f"{pairs[tensor]} and {own} are one tensor in {name}, and two in into", remedy=_OTHER)
        if own not in taken:
            pairs[tensor] = own
            taken.add(own)
    return pairs


def _read(
    readers: Mapping[str, TensorReader], targets: Mapping[str, torch.Tensor], at_once: int
) -> dict[str, torch.Tensor]:
    def read(name: str) -> torch.Tensor:
        reader = readers[name]
        box = box_of(None, name, reader.entry.shape)
        if name not in targets:
            return reader.read(box, Wanted())
        reader.fill(targets[name], box)
        return targets[name]

    with ThreadPoolExecutor(at_once, thread_name_prefix="shardflow-load") as pool:
        return dict(zip(readers, pool.map(read, readers), strict=True))
