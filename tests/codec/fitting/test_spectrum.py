"""A small part of a difference tells a merged adapter from a training of all weights, and from rounding."""

from __future__ import annotations

import numpy as np
import pytest

from codec.adapters import as_values, as_words
from shardflow.codec.fitting.bounds import Changes, changes
from shardflow.codec.fitting.spectrum import noise_of
from shardflow.dtype import DType

BF16, F16, F32 = DType.BF16, DType.F16, DType.F32
every_dtype = pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=lambda dtype: dtype.name)
SIDE = 320
WHOLE = (2048, 2048)  # the matrix that the part is of


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def low_rank(rank: int, size: float) -> np.ndarray:
    """Numbers of about this size."""
    return normal(1, SIDE, rank) @ normal(2, rank, SIDE) * size / np.sqrt(rank)


def part(change: np.ndarray, dtype: DType = BF16, lost: float = 0.0) -> Changes:
    """What is known of a change; the older numbers may have `lost` something that the newer ones were made from."""
    before = as_words(normal(0, SIDE, SIDE) * 0.02, dtype)
    exact = as_values(before, dtype).astype(np.float64).reshape(SIDE, SIDE) + normal(5, SIDE, SIDE) * lost
    after = as_words(exact + change, dtype)
    shape = SIDE, SIDE
    return changes(after.reshape(shape), before.reshape(shape), dtype, change_is_rounded=True)


@every_dtype
@pytest.mark.parametrize("rank", [4, 16, 64])
@pytest.mark.parametrize("size", [1e-4, 1e-3, 1e-2])
def test_an_adapter_leaves_what_rounding_leaves(dtype: DType, rank: int, size: float) -> None:
    noise = noise_of(part(low_rank(rank, size), dtype), WHOLE, 256)
    assert noise is not None
    assert noise < 1.3


def test_a_high_rank_is_no_low_one() -> None:
    assert noise_of(part(low_rank(200, 1e-2)), WHOLE, 256) is not None
    assert noise_of(part(low_rank(200, 1e-2)), WHOLE, 128) is None


@every_dtype
@pytest.mark.parametrize("size", [1e-4, 1e-3, 1e-2])
def test_a_training_of_all_weights_is_not_worth_a_search(dtype: DType, size: float) -> None:
    assert noise_of(part(normal(3, SIDE, SIDE) * size, dtype), WHOLE, 256) is None


@pytest.mark.parametrize("rank", [2, 20])
def test_a_training_that_went_farther_in_some_directions_is_none_either(rank: int) -> None:
    change = normal(3, SIDE, SIDE) * 2e-4 + low_rank(rank, 2e-4)
    assert noise_of(part(change), WHOLE, 256) is None


def test_older_numbers_that_had_lost_something_leave_twice_as_much() -> None:
    noise = noise_of(part(low_rank(16, 1e-3), lost=4e-5), WHOLE, 256)
    assert noise is not None
    assert 1.3 < noise < 2.5


def test_what_is_too_weak_to_be_seen_in_a_part_may_be_seen_in_all() -> None:
    assert noise_of(part(low_rank(16, 3e-6)), WHOLE, 256) == 1


def test_nothing_known_is_nothing_found() -> None:
    unknown = Changes(np.zeros((70, 70), np.float32), np.full((70, 70), np.inf, np.float32))
    assert noise_of(unknown, WHOLE, 256) is None
