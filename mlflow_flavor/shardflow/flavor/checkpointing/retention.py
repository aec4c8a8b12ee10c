"""Which steps of a training run are kept: the last ones, the best ones, every so many."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from shardflow.errors import ShardflowError


class RetentionUnclear(ShardflowError):
    """A rule that says nothing, or not enough."""


@dataclass(frozen=True, slots=True)
class StepInfo:
    """A step that is stored to its end."""

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retention:
    """A step stays if any of the rules keeps it; the last complete one always does.

    `last` keeps so many of the newest, `best` so many with the lowest `metric` (the highest with mode="max"), `every`
    those whose number can be divided by it. A rule that is not given keeps nothing.
    """

    last: int = 1
    best: int = 0
    metric: str = ""
    mode: Literal["min", "max"] = "min"
    every: int = 0

    def __post_init__(self) -> None:
        if self.last < 1 or self.best < 0 or self.every < 0:
            raise RetentionUnclear("steps are kept in numbers: last is at least 1, best and every at least 0")
        if self.best and not self.metric:
            raise RetentionUnclear("the best by what?", remedy="name a metric that save() is given, as metric='loss'")
        if self.mode not in ("min", "max"):
            raise RetentionUnclear(f"{self.mode!r} is no direction of a metric", remedy="use 'min' or 'max'")

    def kept(self, steps: Collection[StepInfo]) -> set[int]:
        """The numbers of those steps that stay."""
        newest = sorted(info.step for info in steps)[-self.last :]
        divisible = [info.step for info in steps if self.every and info.step % self.every == 0]
        return {*newest, *divisible, *self._best(steps)}

    def _best(self, steps: Collection[StepInfo]) -> list[int]:
        sign = 1 if self.mode == "min" else -1
        ranked = [(sign * info.metrics.get(self.metric, math.nan), -info.step) for info in steps]
        return [-step for value, step in sorted(pair for pair in ranked if not math.isnan(pair[0]))[: self.best]]
