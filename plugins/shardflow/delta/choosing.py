"""Which of several older files serves a newer one best, as a whole and tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardflow.delta.bases import Attempt
from shardflow.delta.predicting import Predictor

CLEARLY = 0.95  # of what the one before leaves: what a later candidate must leave to be preferred


def best_few(candidates: Sequence[Predictor], most: int) -> list[Predictor]:
    """The candidates that leave least of the file, the best first; those without a counterpart to anything are out.

    They come in the order in which they are likely to be good, and keep it where they are nearly as good.
    """
    left = [candidate for candidate in candidates if len(candidate)]
    if len(left) <= 1:
        return left
    likeness = {id(candidate): candidate.likeness() for candidate in left}
    chosen: list[Predictor] = []
    while left and len(chosen) < most:
        best = _clearly_best(left, lambda candidate: likeness[id(candidate)])
        left.remove(best)
        chosen.append(best)
    return chosen


class Predictors:
    """Several older files at once: each tensor is predicted from the one that serves it best."""

    def __init__(self, several: Sequence[Predictor]) -> None:
        self._several = several

    def attempts(self, start: int, end: int, data: memoryview) -> list[Attempt]:
        if not self._several:
            return []
        # A strong adapter hides from a sample which of several versions it was merged into; only one of them fits.
        merged = (predictor for predictor in self._several if predictor.is_merged(start, end))
        best = next(merged, None) or _clearly_best(self._several, lambda predictor: predictor.expected(start, end))
        return best.attempts(start, end, data)


def _clearly_best(several: Sequence[Predictor], share: Callable[[Predictor], float]) -> Predictor:
    best = several[0]
    for other in several[1:]:
        if share(other) < CLEARLY * share(best):
            best = other
    return best
