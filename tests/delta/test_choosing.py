"""Of several older files, each tensor takes the one that serves it best; nearly as good does not change the order."""

from __future__ import annotations

import pytest

from delta import models
from delta.local import Local
from delta.models import Model, as_file, laid_out, merged, model, reading, trained
from shardflow.codec import CodecId
from shardflow.delta.choosing import Predictors, best_few
from shardflow.delta.predicting import Predictor


def against(new: Model, *older: Model) -> list[Predictor]:
    file = as_file(new)
    return [Predictor(laid_out(file), reading(file), Local(as_file(old))) for old in older]


def test_the_nearest_files_come_first() -> None:
    far, near, stranger = trained(model(), 1e-3), trained(model(), 1e-7), model(5)
    candidates = against(model(), stranger, far, near)
    assert best_few(candidates, 2) == [candidates[2], candidates[1]]


def test_files_that_are_as_good_keep_their_order() -> None:
    candidates = against(model(), *(trained(model(), 1e-7, seed) for seed in range(3)))
    assert best_few(candidates, 2) == candidates[:2]


def test_a_file_without_a_common_tensor_is_no_candidate() -> None:
    import numpy as np

    assert best_few(against(model(), {"other": np.ones((3, 5), "<f4")}), 2) == []


@pytest.mark.parametrize("order", [1, -1])
def test_each_tensor_is_predicted_from_the_file_it_came_from(order: int) -> None:
    """As when two models are put together from their halves."""
    one, other = model(1), model(2)
    mixed = {name: (one if "mlp" in name else other)[name] for name in one}
    new = trained(mixed, 1e-7)
    file = as_file(new)
    several = Predictors(against(new, *[one, other][::order]))
    for segment in laid_out(file).segments:
        if segment.name and segment.length > 60_000:
            start, end = segment.offset, segment.offset + segment.length
            assert several.attempts(start, end, memoryview(file)[start:end]), segment.name


def test_the_version_that_an_adapter_was_merged_into_is_told_from_its_neighbours() -> None:
    before = trained(model(), 1e-5)
    new = merged(model(), models.adapter(strength=5))
    file = as_file(new)
    segment = next(each for each in laid_out(file).segments if each.name == "layers.1.attention.weight")
    start, end = segment.offset, segment.offset + segment.length
    attempts = Predictors(against(new, before, model())).attempts(start, end, memoryview(file)[start:end])
    assert CodecId.LOWRANK in {attempt.prediction.codec for attempt in attempts}


def test_without_files_there_are_no_attempts() -> None:
    assert Predictors([]).attempts(0, 4, memoryview(b"abcd")) == []
