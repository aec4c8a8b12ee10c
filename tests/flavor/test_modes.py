"""A module that is asked for its answers is left in the modes it was in, layer by layer."""

from __future__ import annotations

import pytest
import torch

from shardflow.flavor.modes import in_evaluation


class Merging(torch.nn.Linear):
    """Adds what it has learned to its weights while it is evaluated, as adapters do."""

    merged = False

    def train(self, mode: bool = True) -> Merging:
        self.merged = not mode
        super().train(mode)
        return self


def frozen() -> torch.nn.Sequential:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Sequential(torch.nn.BatchNorm2d(4)), Merging(2, 2))
    module[1].eval()
    return module


def modes(module: torch.nn.Module) -> dict[str, bool]:
    return {name: each.training for name, each in module.named_modules()}


def test_frozen_layers_stay_frozen_and_others_in_training() -> None:
    module = frozen()
    before = modes(module)
    with in_evaluation(module):
        assert not any(modes(module).values())
        assert module[2].merged
    assert modes(module) == before
    assert not module[2].merged


def test_the_modes_come_back_after_an_error() -> None:
    module = frozen()
    before = modes(module)
    with pytest.raises(ZeroDivisionError), in_evaluation(module):
        _ = 1 / 0
    assert modes(module) == before


def test_a_layer_in_training_within_a_frozen_part_and_one_that_two_parts_share_come_back() -> None:
    shared = torch.nn.Dropout()
    module = torch.nn.Sequential(torch.nn.Sequential(shared), torch.nn.Sequential(shared, torch.nn.Dropout())).eval()
    module[0].train()
    shared.train()
    module[1][1].train()
    before = modes(module)
    with in_evaluation(module):
        pass
    assert modes(module) == before
