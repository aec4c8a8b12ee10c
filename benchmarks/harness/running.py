"""In which order things are measured: warm-ups first and forgotten, rivals in turn, each going first as often."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def repeated(work: Callable[[int], T], runs: int, *, warm_up: int = 1) -> list[T]:
    """The results of several runs; those of the warm-up are dropped. Each is told its number, from 0."""
    return [work(number) for number in range(warm_up + runs)][warm_up:]


def alternated(works: dict[str, Callable[[int], T]], pairs: int, *, warm_up: int = 1) -> dict[str, list[T]]:
    """The results of rivals that take turns: A B, B A, A B, ... so that drift and order favour none."""
    results: dict[str, list[T]] = {name: [] for name in works}
    for number in range(warm_up + pairs):
        order = list(works) if number % 2 == 0 else list(reversed(works))
        for name in order:
            results[name].append(works[name](number))
    return {name: found[warm_up:] for name, found in results.items()}
