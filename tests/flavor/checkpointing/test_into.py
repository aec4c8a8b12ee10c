"""A state is loaded into tensors that are there, by their places in it, whatever they are views of."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shardflow.flavor.checkpointing import AsyncCheckpointer
from shardflow.flavor.checkpointing.errors import StateMismatch

COMPLEX = torch.randn(3, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("saved", "target"),
    [
        (COMPLEX, torch.zeros(3, dtype=torch.complex64).conj()),
        (COMPLEX.conj(), torch.zeros(3, dtype=torch.complex64)),
        (COMPLEX.conj().imag, torch.zeros(3, dtype=torch.complex64).conj().imag),
        (torch.ones(3), torch.zeros(3, dtype=torch.complex64).conj().imag),
        (torch.ones(1), torch.tensor(0.0).expand(1)),
        (torch.ones(1), torch.zeros(10)[::10]),
        (torch.ones(2, 3), torch.zeros(3, 2).T),
    ],
    ids=["conjugate", "plain", "negated", "strided", "spread", "stepped", "turned"],
)
def test_a_view_of_other_memory_is_filled_with_the_values_that_were_saved(
    saved: torch.Tensor, target: torch.Tensor, url: str
) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, {"it": saved})
        checkpoints.wait()
        loaded = checkpoints.load(into={"it": target})
        assert torch.equal(target, saved)
        assert torch.equal(loaded["it"], saved)


SAVED = [
    {"a.b": torch.tensor(1.0), "a": {"b": torch.tensor(2.0)}},
    {0: torch.tensor(1.0), "0": torch.tensor(2.0)},
    {(1, "x"): torch.tensor(1.0), "(1, 'x')": torch.tensor(2.0)},
]


@pytest.mark.parametrize("saved", SAVED)
def test_tensors_go_to_their_places_whatever_the_order_of_keys_that_read_alike(saved: Any, url: str) -> None:
    into = emptied(saved)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, saved)
        checkpoints.wait()
        loaded = checkpoints.load(into=into)
    assert into == saved
    assert loaded == saved


def emptied(state: Any) -> Any:
    """The same with zeros, and its keys in the reverse order."""
    if isinstance(state, dict):
        return {key: emptied(value) for key, value in reversed(state.items())}
    return torch.zeros_like(state)


def test_two_tensors_that_were_one_are_refused(url: str) -> None:
    shared = torch.ones(2)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, {"a": shared, "b": shared})
        checkpoints.wait()
        with pytest.raises(StateMismatch, match=r"a and b are one tensor in step 1 of .*, and two in into"):
            checkpoints.load(into={"a": torch.zeros(2), "b": torch.zeros(2)})
        both = torch.zeros(2)
        loaded = checkpoints.load(into={"a": both, "b": both})
    assert loaded["a"] is loaded["b"]
    assert torch.equal(both, shared)
