from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from shardflow.flavor.checkpointing import AsyncCheckpointer, restore, state_of
from shardflow.flavor.checkpointing.errors import StateMismatch


class Training:
    """A small run with all that has a state."""

    def __init__(self, width: int = 8, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = torch.nn.Sequential(
            torch.nn.Linear(width, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 1)
        )
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 4])

    def step(self) -> float:
        noise = random.random() + np.random.rand()  # noqa: NPY002  # the generator whose state is kept
        loss = (self.module(torch.randn(4, 8)) * noise).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def state(self, **values: Any) -> dict[str, Any]:
        return state_of(module=self.module, optimizer=self.optimizer, scheduler=self.scheduler, rng=True, **values)


def test_a_run_that_is_resumed_goes_on_exactly_as_it_would_have(url: str) -> None:
    first = Training()
    with AsyncCheckpointer(url) as checkpoints:
        for _ in range(3):
            first.step()
        checkpoints.save(3, first.state(epoch=1))
        wanted = [first.step() for _ in range(4)]

    second = Training(seed=9)
    with AsyncCheckpointer(url) as checkpoints:
        state = checkpoints.load()
    restore(state, module=second.module, optimizer=second.optimizer, scheduler=second.scheduler, rng=True)
    assert state["epoch"] == 1
    assert [second.step() for _ in range(4)] == wanted


def test_a_module_is_filled_where_its_weights_are(url: str) -> None:
    first, second = Training(), Training(seed=9)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, first.state())
        checkpoints.wait()
        places = [parameter.data_ptr() for parameter in second.module.parameters()]
        state = checkpoints.load(into=state_of(module=second.module))
    assert [parameter.data_ptr() for parameter in second.module.parameters()] == places
    assert torch.equal(second.module[0].weight, first.module[0].weight)
    assert torch.equal(second.module[1].running_mean, first.module[1].running_mean)
    assert state["module"]["0.weight"].data_ptr() == places[0]
    assert "optimizer" in state


def test_shapes_that_do_not_fit_are_told_by_name_before_anything_is_touched(url: str) -> None:
    other = Training(width=16)
    before = {name: tensor.clone() for name, tensor in other.module.state_dict().items()}
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, Training().state())
        checkpoints.wait()
        said = r"module\.0\.weight of step 1 .* is torch\.float32 \[8, 8\], and is to go into torch\.float32 \[8, 16\]"
        with pytest.raises(StateMismatch, match=said):
            checkpoints.load(into=state_of(module=other.module))
        with pytest.raises(StateMismatch, match=r"step 1 .* has no module\.9"):
            checkpoints.load(into={"module": {"9": torch.ones(1)}})
        state = checkpoints.load()
    with pytest.raises(StateMismatch, match=r"module\.0\.weight is \[8, 8\] in the state, and \[8, 16\] in the module"):
        restore(state, module=other.module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.module.state_dict().items())


def test_a_state_of_other_parts_is_refused() -> None:
    training = Training()
    state = training.state()
    with pytest.raises(StateMismatch, match="the state has no scaler; it has module, optimizer"):
        restore(state, scaler=training.scheduler)
    with pytest.raises(StateMismatch, match="the state has no rng"):
        restore(state_of(module=training.module), rng=True)
    with pytest.raises(StateMismatch, match=r"the state has no module\.bias"):
        restore({"module": {"weight": torch.ones(1, 1)}}, module=torch.nn.Linear(1, 1))
    with pytest.raises(StateMismatch, match=r"the module has no extra, which the state has as module\.extra"):
        restore(
            {"module": {**torch.nn.Linear(1, 1).state_dict(), "extra": torch.ones(1)}}, module=torch.nn.Linear(1, 1)
        )
    with pytest.raises(StateMismatch, match="optimizer does not take its state"):
        restore(state, optimizer=torch.optim.AdamW(torch.nn.Linear(1, 1).parameters()))
    with pytest.raises(StateMismatch, match="rng is no state of random numbers"):
        restore({"rng": {"python": 1}}, rng=True)


def test_a_module_may_take_less_than_all_if_that_is_asked_for() -> None:
    module = torch.nn.Linear(2, 2)
    restore({"module": {"weight": torch.zeros(2, 2), "other": torch.ones(1)}}, module=module, strict=False)
    assert not module.weight.any()
