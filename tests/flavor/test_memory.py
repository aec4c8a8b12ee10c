"""Memory for tensors: huge pages where they are quick to get, small ones where they are not."""

from __future__ import annotations

import pytest
import torch

from shardflow.flavor import memory
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.memory import WORTH_HUGE_PAGES, empty, empty_for

LARGE = (WORTH_HUGE_PAGES // 4, 3)


@pytest.fixture(autouse=True)
def _pages_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_slow_until", 0.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was asked for in huge pages, each time."""
    sizes: list[int] = []
    made = memory.buffer

    def noting(size: int) -> memoryview:
        sizes.append(size)
        return made(size)

    monkeypatch.setattr(memory, "buffer", noting)
    return sizes


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 7), LARGE])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.bool, torch.complex64])
def test_a_tensor_has_its_shape_and_type_and_can_be_written(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = empty(shape, dtype)
    assert (tuple(made.shape), made.dtype, made.is_contiguous()) == (shape, dtype, True)
    made.fill_(1)
    assert bool((made == 1).all())


@pytest.mark.parametrize("shape", [(1 << 50,), (1 << 62, 4), (-1,), (0, 1 << 64), (0, (1 << 63) - 1, (1 << 63) - 1)])
def test_a_tensor_that_there_is_no_memory_for_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointUnusable, match=r"there is no memory for step 3: w, which is float32 \["):
        empty_for("step 3: w", shape, torch.float32)


def test_large_tensors_lie_in_huge_pages_and_small_ones_do_not(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SLOW_SECONDS", 60.0)
    empty((10,), torch.float32)
    assert asked == []
    large = empty(LARGE, torch.float32)
    assert asked == [large.nbytes]


def test_where_a_huge_page_takes_long_there_are_small_ones_for_a_while(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(memory, "PAUSE_SECONDS", 60.0)
    for _ in range(3):
        assert empty(LARGE, torch.float32).fill_(2).sum() == 2 * LARGE[0] * LARGE[1]
    assert len(asked) == 1
    monkeypatch.setattr(memory, "_slow_until", 0.0)
    empty(LARGE, torch.float32)
    assert len(asked) == 2
