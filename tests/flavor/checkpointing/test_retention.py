from __future__ import annotations

import math

import pytest

from shardflow.flavor.checkpointing.retention import Retention, RetentionUnclear, StepInfo

LOSSES = {10: 0.5, 20: 0.3, 30: 0.4, 40: 0.3, 50: 0.9}
STEPS = [StepInfo(step, {"loss": loss}) for step, loss in LOSSES.items()]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Retention(), {50}),
        (Retention(last=2), {40, 50}),
        (Retention(last=9), set(LOSSES)),
        (Retention(best=2, metric="loss"), {20, 40, 50}),
        (Retention(best=1, metric="loss"), {40, 50}),  # of equal ones the newer
        (Retention(best=1, metric="loss", mode="max"), {50}),
        (Retention(best=1, metric="unknown"), {50}),
        (Retention(every=20), {20, 40, 50}),
        (Retention(last=2, best=1, metric="loss", every=30), {30, 40, 50}),
    ],
)
def test_a_step_stays_if_any_rule_keeps_it(rule: Retention, kept: set[int]) -> None:
    assert rule.kept(STEPS) == kept


def test_a_step_whose_metric_is_no_number_is_not_the_best() -> None:
    steps = [StepInfo(1, {"loss": math.nan}), StepInfo(2, {"loss": 3.0}), StepInfo(3, {})]
    assert Retention(best=1, metric="loss").kept(steps) == {2, 3}


def test_nothing_is_kept_of_nothing() -> None:
    assert Retention(last=3).kept([]) == set()


@pytest.mark.parametrize(
    "arguments", [{"last": 0}, {"best": 1}, {"best": -1}, {"every": -1}, {"best": 1, "metric": "a", "mode": "low"}]
)
def test_a_rule_that_is_not_clear_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(RetentionUnclear):
        Retention(**arguments)  # type: ignore[arg-type]
