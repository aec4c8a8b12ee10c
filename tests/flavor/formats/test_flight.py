"""What TensorStore is asked for stays within its bounds, and nothing of it goes on when whoever asked has left."""

from __future__ import annotations

from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import pytest
import tensorstore as ts
import torch

from flavor.formats.states import differing
from shardflow.flavor import formats
from shardflow.flavor.formats import flight, opening
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.flight import InFlight
from shardflow.transport import ByteBudget

MIB = 1 << 20


@pytest.mark.parametrize("name", ["tensorstore", "tensorstore-t5x", "tensorstore-fast"])
def test_loading_has_no_more_in_flight_than_the_memory_allows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = {f"layer.{number}": (torch.randn(1500, 1024) * 0.02).bfloat16() for number in range(4)}
    formats.save(state, tmp_path / "c", format=name)
    budgets = recorded_budgets(monkeypatch)
    monkeypatch.setattr(opening, "shared_budget", lambda: ByteBudget(4 * MIB))
    monkeypatch.setattr(opening, "PIECE_BYTES", MIB)
    assert differing(state, formats.load(tmp_path / "c")) == []
    [budget] = budgets
    assert 0 < budget.peak <= 4 * MIB
    assert budget.out == 0


def test_a_chunk_that_is_larger_than_the_memory_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: torch.arange(MIB).view(512, 2048) for name in ("a", "b")}
    formats.save(state, tmp_path / "c", format="tensorstore-t5x")
    budgets = recorded_budgets(monkeypatch)
    monkeypatch.setattr(opening, "shared_budget", lambda: ByteBudget(MIB))
    assert differing(state, formats.load(tmp_path / "c")) == []
    assert budgets[0].peak == 8 * MIB


def test_leaving_waits_for_what_is_under_way_though_something_else_failed() -> None:
    promise, copying = begun()

    def interrupted() -> None:
        with InFlight("read", 8, MIB) as reads:
            reads.next_tensor("weight")
            reads.copy(10, lambda: copying)
            Timer(0.05, promise.set_result, [None]).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert copying.commit.done()


def test_a_copy_that_fails_names_its_tensor_and_the_others_are_awaited() -> None:
    failing, first = begun()
    other, second = begun()

    def failed() -> None:
        with InFlight("read", 8, MIB, "here") as reads:
            for name, copying in (("weight", first), ("bias", second)):
                reads.next_tensor(name)
                reads.copy(10, lambda copying=copying: copying)
            failing.set_exception(ValueError("no such luck"))
            Timer(0.05, other.set_result, [None]).start()

    with pytest.raises(CheckpointDamaged, match=r"^here: tensor weight cannot be read: no such luck"):
        failed()
    assert second.commit.done()


def test_a_tensor_waits_until_it_is_one_of_few_enough() -> None:
    promise, copying = begun()
    with InFlight("written", 1, MIB) as writes:
        writes.next_tensor("weight")
        writes.copy(10, lambda: copying)
        Timer(0.05, promise.set_result, [None]).start()
        writes.next_tensor("bias")
        assert copying.commit.done()


def test_a_copy_that_cannot_begin_gives_its_bytes_back() -> None:
    def refused() -> Any:
        raise OSError("no")

    with InFlight("written", 1, 10) as writes:
        writes.next_tensor("weight")
        for _ in range(3):
            with pytest.raises(OSError, match="no"):
                writes.copy(10, refused)


def begun() -> tuple[Any, Any]:
    """A copy that is under way until its promise is kept."""
    promise, future = ts.Promise.new()
    return promise, SimpleNamespace(commit=future)


def recorded_budgets(monkeypatch: pytest.MonkeyPatch) -> list[ByteBudget]:
    made: list[ByteBudget] = []

    def recorded(total: int) -> ByteBudget:
        made.append(ByteBudget(total))
        return made[-1]

    monkeypatch.setattr(flight, "ByteBudget", recorded)
    return made
