"""Where a data loader is in its epoch is a part of the tree: a run that goes on sees the batches that are left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from flavor.checkpointing.samples import Gate
from shardflow.flavor.checkpointing import AsyncCheckpointer, restore, state_of
from shardflow.flavor.checkpointing.errors import StateMismatch

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata calls it


class Shuffled(Sampler[int]):
    """An order of its own, and the place it has come to."""

    def __init__(self, size: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._size = size
        self._left: list[int] = []

    def __iter__(self) -> Iterator[int]:
        if not self._left:
            self._left = self._random.sample(range(self._size), self._size)
        while self._left:
            yield self._left.pop()

    def __len__(self) -> int:
        return self._size

    def state_dict(self) -> dict[str, Any]:
        return {"left": list(self._left), "random": self._random.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._left = list(state["left"])
        self._random.setstate(state["random"])


class Run:
    """A model, its optimizer and a loader whose batches decide what it learns."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.module = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.1)
        inputs = torch.arange(160.0).reshape(40, 4) / 160
        self.loader: Any = StatefulDataLoader(inputs, batch_size=4, shuffle=True)  # type: ignore[arg-type]

    def parts(self) -> dict[str, Any]:
        return {"module": self.module, "optimizer": self.optimizer, "loader": self.loader}

    def learn(self, batch: torch.Tensor) -> float:
        loss = (self.module(batch) - batch.sum(1, keepdim=True)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def test_a_run_goes_on_in_the_middle_of_an_epoch(url: str, gate: Gate) -> None:
    first = Run(seed=1)
    batches = iter(first.loader)
    with AsyncCheckpointer(url) as checkpoints:
        for _ in range(3):
            first.learn(next(batches))
        checkpoints.save(3, state_of(rng=True, **first.parts()))
        wanted = [first.learn(batch) for batch in batches]  # the loader goes on while it is being stored
        gate.opened.set()
    assert len(wanted) == 7

    second = Run(seed=9)
    with AsyncCheckpointer(url) as checkpoints:
        restore(checkpoints.load(), rng=True, **second.parts())
    assert [second.learn(batch) for batch in second.loader] == wanted
    assert [second.learn(batch) for batch in second.loader] == [first.learn(batch) for batch in first.loader]


def test_a_sampler_of_ones_own_goes_on_where_it_was(url: str) -> None:
    first, second = Shuffled(20, seed=1), Shuffled(20, seed=2)
    order = iter(first)
    seen = [next(order) for _ in range(7)]
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state_of(sampler=first))
        left = list(order)
        checkpoints.wait()
        restore(checkpoints.load(), sampler=second)
    assert sorted([*seen, *left]) == list(range(20))
    assert list(second) == left
    assert list(second) == list(first)


def test_a_loader_of_another_kind_is_refused_by_its_name(url: str) -> None:
    first = Run(seed=1)
    next(iter(first.loader))
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state_of(loader=first.loader))
        checkpoints.wait()
        with pytest.raises(StateMismatch, match="sampler does not take its state"):
            restore({"sampler": checkpoints.load()["loader"]}, sampler=Shuffled(20, seed=1))
