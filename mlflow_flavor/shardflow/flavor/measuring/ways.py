"""The ways to save a state and to have it back, each with what it is held against."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from shardflow.flavor import formats
from shardflow.flavor.checkpointing import AsyncCheckpointer
from shardflow.flavor.measuring.shapes import LATER, NOISE, WEIGHTS
from shardflow.store.store import Store

State = Mapping[str, torch.Tensor]
Save = Callable[[State, str], Any]
Load = Callable[[str], Mapping[str, torch.Tensor]]
FIRST, SECOND = "step-0", "step-10"
PEER = "torch"


@dataclass(frozen=True, slots=True)
class Goal:
    """At most so much of what torch takes, or no goal."""

    save: float | None = None
    load: float | None = None
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way; `save` and `load` are told a directory, or the URL of a store."""

    title: str
    save: Save
    load: Load
    goal: Goal = Goal()
    weights: str = WEIGHTS
    before: Save | None = None  # what has to be there already; not measured
    stored: bool = False  # in a store
    slow: bool = False  # is run once
    loads: bool = True


def _torch(state: State, place: str) -> None:
    torch.save(dict(state), f"{place}/model.pt")


def _torch_forced(state: State, place: str) -> None:
    _torch(state, place)
    descriptor = os.open(f"{place}/model.pt", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _load_torch(place: str) -> Mapping[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(f"{place}/model.pt", weights_only=True)
    return loaded


def _in_format(name: str, *, slow: bool = False, goal: Goal = Goal()) -> Way:  # it cannot be changed
    return Way(
        name,
        lambda state, place: formats.save(state, f"{place}/model", format=name),
        lambda place: formats.load(f"{place}/model", format=name),
        goal,
        slow=slow,
    )


def _saver(step: str) -> Save:
    return lambda state, place: formats.save(state, f"{place}/{step}")


def _loader(step: str) -> Load:
    return lambda place: formats.load(f"{place}/{step}")


def _asynchronous(state: State, place: str) -> dict[str, float]:
    """The second save of a run: the first one makes the buffer that all others use again."""
    with AsyncCheckpointer(f"{place}/run") as checkpoints:
        checkpoints.save(0, dict(state))
        checkpoints.wait()
        began = perf_counter()
        checkpoints.save(1, dict(state))
        return {"seconds": perf_counter() - began}


WAYS = {
    PEER: Way("torch.save, torch.load", _torch, _load_torch),
    "torch-forced": Way("torch.save, forced to the disk", _torch_forced, _load_torch),
    "tensorstore": _in_format("tensorstore", slow=True),
    "tensorstore-t5x": _in_format("tensorstore-t5x", slow=True),
    "tensorstore-fast": _in_format("tensorstore-fast", goal=Goal(1.5, 1.5, 0.70)),
    "planes": Way("store, planes", _saver(FIRST), _loader(FIRST), Goal(1.0, 0.9, 0.67), stored=True),
    "raw": Way("store, raw", _saver(FIRST), _loader(FIRST), Goal(0.9, 0.6, 1.0), NOISE, stored=True),
    "incremental": Way(
        "store, 10 steps on", _saver(SECOND), _loader(SECOND), Goal(0.5, 1.2, 0.05), LATER, _saver(FIRST), stored=True
    ),
    "asynchronous": Way(
        "store, asynchronous: what blocks", _asynchronous, _loader(FIRST), Goal(save=0.15), stored=True, loads=False
    ),
}


def made_place(way: Way, place: str) -> None:
    if way.stored:
        Store.init(place)
    else:
        Path(place).mkdir(parents=True)


def removed(way: Way, place: str) -> None:
    """Leave nothing of what was saved there."""
    if not way.stored or place.startswith("shardflow://file"):
        shutil.rmtree(place.removeprefix("shardflow://file"))
        return
    store, _ = Store.find(place)
    for found in list(store.transport.list()):
        store.transport.delete(found.key)


def bytes_at(way: Way, place: str) -> int:
    """Everything that is there."""
    if way.stored:
        store, _ = Store.find(place)
        return sum(found.size for found in store.transport.list())
    return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
