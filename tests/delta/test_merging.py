"""Merged adapters are looked for where they may be, and a model that was trained as a whole costs a few looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from delta import models
from delta.local import Local
from delta.models import Model, Values, as_file, laid_out, reading
from shardflow.codec import CodecId
from shardflow.codec.fitting import factors
from shardflow.delta import merging
from shardflow.delta.predicting import SPEAK_FOR_ALL, Predictor
from shardflow.dtype import DType

BF16 = DType.BF16
LAYERS = 5
KINDS = ("attention.k", "attention.q", "attention.v", "mlp.down", "mlp.up")


def llama() -> Model:
    """The kinds of matrices that a decoder has, in several layers."""
    rng = np.random.default_rng(0)
    names = ["embedding", *(f"layers.{n}.{kind}" for n in range(LAYERS) for kind in KINDS), "output"]
    values = {name: (rng.standard_normal((288, 256)) * 0.02).astype("<f4") for name in names}
    return models.rounded(values, BF16)


def changed(before: Model, change: Callable[[], Values], *kinds: str) -> Model:
    """The tensors whose names hold one of these words changed, or all if there are none."""
    return {
        name: values + change() if not kinds or any(kind in name for kind in kinds) else values
        for name, values in before.items()
    }


def trained(rate: float, seed: int = 1) -> Callable[[], Values]:
    rng = np.random.default_rng(seed)
    return lambda: (rng.standard_normal((288, 256)) * rate).astype("<f4")


def adapted(rank: int, size: float, seed: int = 2) -> Callable[[], Values]:
    """A change of this rank, about as large as `size`."""
    rng = np.random.default_rng(seed)
    each = np.sqrt(size / np.sqrt(rank))

    def change() -> Values:
        left, right = (rng.standard_normal(shape) * each for shape in ((288, rank), (rank, 256)))
        return (left @ right).astype("<f4")

    return change


class Calls(Counter[str]):
    """How often something was done."""

    def watch(self, patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        does = getattr(module, name)

        def counted(*given: Any, **named: Any) -> Any:
            self[name] += 1
            return does(*given, **named)

        patch.setattr(module, name, counted)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    found.watch(monkeypatch, merging, "fit_factors")
    for name in ("leading", "solved"):
        found.watch(monkeypatch, factors, name)
    return found


def merged_into(new: Model, old: Model) -> set[str]:
    """The names of tensors that an attempt by factors is made for."""
    file = as_file(new, BF16)
    layout = laid_out(file)
    predictor = Predictor(layout, reading(file), Local(as_file(old, BF16)))
    found = set()
    for segment in layout.segments:
        if segment.name:
            start, end = segment.offset, segment.offset + segment.length
            attempts = predictor.attempts(start, end, memoryview(file)[start:end])
            if CodecId.LOWRANK in {attempt.prediction.codec for attempt in attempts}:
                found.add(segment.name)
    return found


@pytest.mark.parametrize("rate", [1e-3, 1e-4, 3e-5])
def test_a_model_trained_as_a_whole_costs_one_small_look_for_a_few_kinds(calls: Calls, rate: float) -> None:
    assert merged_into(changed(llama(), trained(rate)), llama()) == set()
    alone = 2  # the embedding and the output, which speak for themselves only
    assert calls["fit_factors"] <= SPEAK_FOR_ALL + alone
    assert calls["leading"] == 0 or rate < 1e-4, "a whole panel is looked at only where a part of it says nothing"
    assert calls["solved"] == 0


def test_tensors_that_stayed_say_nothing_about_the_others(calls: Calls) -> None:
    new = changed(llama(), adapted(4, 3e-4), "attention.q")
    assert merged_into(new, llama()) == {f"layers.{n}.attention.q" for n in range(LAYERS)}
    assert calls["fit_factors"] == LAYERS


def test_an_adapter_is_found_beside_an_embedding_that_was_trained(calls: Calls) -> None:
    new = changed(changed(llama(), trained(1e-3), "embedding", "output"), adapted(8, 3e-4), "attention")
    found = merged_into(new, llama())
    assert found == {f"layers.{n}.attention.{each}" for n in range(LAYERS) for each in "kqv"}
    assert calls["fit_factors"] <= 3 * LAYERS + 2


@pytest.mark.parametrize("rank", [4, 16, 64])
@pytest.mark.parametrize("size", [8e-5, 1e-3], ids=["weak", "strong"])
def test_adapters_of_any_usual_rank_and_strength_are_found(rank: int, size: float) -> None:
    """The weak ones change a number by less than most are rounded by."""
    new = changed(llama(), adapted(rank, size), "layers.2.mlp")
    assert merged_into(new, llama()) == {"layers.2.mlp.down", "layers.2.mlp.up"}


def test_an_adapter_merged_into_a_version_that_was_rounded_itself_is_found() -> None:
    """Both versions are rounded, the newer one from numbers that the older one had lost."""
    exact = changed(llama(), trained(2e-5))
    new = changed(exact, adapted(8, 1e-3), "attention.v")
    old = models.rounded(exact, BF16)
    names = {f"layers.{n}.attention.v" for n in range(LAYERS)}
    assert merged_into({name: new[name] if name in names else old[name] for name in old}, old) == names


def test_what_stands_out_of_a_training_is_not_taken_where_its_factors_cost_more(calls: Calls) -> None:
    """Steps of a training go some way in few directions, and some way in all."""
    new = changed(changed(llama(), trained(1e-4)), adapted(30, 1.5e-4))
    assert merged_into(new, llama()) == set()
    assert calls["solved"] == 0
