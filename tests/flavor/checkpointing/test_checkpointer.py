from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flavor.checkpointing.samples import Gate, near, same, state
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention
from shardflow.flavor.checkpointing.errors import (
    StateUnusable,
    StepMissing,
    StepTaken,
)
from shardflow.flavor.checkpointing.steps import Steps
from shardflow.store.errors import BadPath, PathMissing
from shardflow.store.store import Store


def test_steps_come_back_as_they_were_saved(url: str) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        for step in (1, 2, 10):
            checkpoints.save(step, state(step), {"loss": 1 / step})
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2, 10]
        assert checkpoints.latest() == 10
        assert [info.metrics for info in checkpoints.history()] == [{"loss": 1.0}, {"loss": 0.5}, {"loss": 0.1}]
        assert same(checkpoints.load(), state(10))
        assert same(checkpoints.load(2), state(2))


def test_a_state_that_is_changed_at_once_is_stored_as_it_was(url: str, gate: Gate) -> None:
    live = state(1)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, live)
        live["weights"].zero_()
        live["step"] = 99
        checkpoints.save(2, live)
        live["weights"].fill_(7)
        gate.opened.set()
    with AsyncCheckpointer(url) as checkpoints:
        assert same(checkpoints.load(1), state(1))
        assert not checkpoints.load(2)["weights"].any()


def test_memory_is_used_again(url: str) -> None:
    with AsyncCheckpointer(url, buffers=1) as checkpoints:
        places = set()
        for step in range(4):
            checkpoints.save(step, state(step))
            checkpoints.wait()
            buffer = checkpoints._buffers.take()
            places.add(buffer._memory.data_ptr())
            checkpoints._buffers.give(buffer)
    assert len(places) == 1


def test_each_step_is_stored_by_how_it_differs_from_the_one_before(url: str, store: Store) -> None:
    now = state(0, rows=2048)
    sent = []
    for step in range(1, 5):
        with AsyncCheckpointer(url) as checkpoints:  # also across runs
            checkpoints.save(step, now)
            checkpoints.wait()
            sent.append(checkpoints.progress.totals.bytes_sent / now["weights"].nbytes)
            assert same(checkpoints.load(), now)
        now = near(now, step)
    assert sent[0] > 0.6
    assert max(sent[1:]) < 0.12


def test_the_first_step_may_be_close_to_a_model(url: str, store: Store) -> None:
    first = state(0, rows=2048)
    with AsyncCheckpointer(f"{store.url}/other") as checkpoints:
        checkpoints.save(0, first)
    with AsyncCheckpointer(url, base=f"{store.url}/other/step-0") as checkpoints:
        checkpoints.save(1, near(first, 1))
        checkpoints.wait()
        assert checkpoints.progress.totals.bytes_sent < 0.12 * first["weights"].nbytes


def test_a_base_that_is_elsewhere_or_nowhere_is_refused(url: str, store: Store, tmp_path: Any) -> None:
    other = Store.init(str(tmp_path.resolve() / "second"))
    with pytest.raises(BadPath, match="is not in the store"):
        AsyncCheckpointer(url, base=str(other.url))
    with pytest.raises(PathMissing):
        AsyncCheckpointer(url, base=f"{store.url}/nothing")


def test_only_the_steps_that_are_to_be_kept_stay(url: str, store: Store) -> None:
    losses = {1: 0.9, 2: 0.1, 3: 0.5, 4: 0.6, 5: 0.7}
    with AsyncCheckpointer(url, keep=Retention(last=2, best=1, metric="loss")) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, state(step), {"loss": loss})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4, 5]
        assert all(same(checkpoints.load(step), state(step)) for step in (2, 4, 5))
    assert {entry.path for entry in store.ls("run")} == {"run/step-2", "run/step-4", "run/step-5"}


def test_a_step_is_not_stored_twice_unless_it_is_to_be_replaced(url: str, store: Store) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        with pytest.raises(StepTaken, match=r"step 1 of .* is stored already; .*replace=True"):
            checkpoints.save(1, state(2))
        checkpoints.save(1, state(2), replace=True)
        checkpoints.wait()
        assert same(checkpoints.load(1), state(2))
        checkpoints.save(1, state(3), replace=True)
        checkpoints.wait()
        assert same(checkpoints.load(1), state(3))
    directory = Steps(store, "run").marker(1).directory
    assert directory
    names = {entry.path for entry in store.ls("run", recursive=True)}
    assert names == {"run/step-1/checkpoint.json", *(f"run/step-1/{directory}/{name}" for name in _files())}


def _files() -> list[str]:
    return ["state.safetensors", "tree.json"]


def test_a_state_without_tensors_and_one_of_several_files_come_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardflow.flavor.checkpointing.steps.MAX_FILE_BYTES", 100_000)
    several = {f"layers.{n}.weight": torch.randn(100, 100) for n in range(8)}
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(0, {"epoch": 3, "nothing": torch.empty(0, 3)})
        checkpoints.save(1, several)
        checkpoints.wait()
        assert checkpoints.load(0)["nothing"].shape == (0, 3)
        back = checkpoints.load(1)
        assert all(torch.equal(back[name], tensor) for name, tensor in several.items())
        checkpoints.save(2, [1, "two"])
        checkpoints.wait()
        assert checkpoints.load() == [1, "two"]


@pytest.mark.parametrize("step", [-1, 1.0, "3", True, 10**18])
def test_what_is_no_number_of_a_step_is_refused(url: str, step: Any) -> None:
    with AsyncCheckpointer(url) as checkpoints, pytest.raises(StateUnusable, match="is no number of a step"):
        checkpoints.save(step, state(1))


@pytest.mark.parametrize("value", [None, "0.5", 10**400, 1j, torch.ones(2)])
def test_a_metric_that_is_no_number_is_refused(url: str, value: Any) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        with pytest.raises(StateUnusable, match=r"the metric loss is .*, which is no number"):
            checkpoints.save(1, state(1), {"loss": value})
        checkpoints.save(1, state(1), {"loss": torch.tensor(0.5), "none": float("nan"), "other": np.float32(2)})
        checkpoints.wait()
        assert checkpoints.history()[0].metrics == {"loss": 0.5, "other": 2.0}


def test_a_run_without_steps_says_so(url: str) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.latest() is None
        with pytest.raises(StepMissing, match="has no complete step"):
            checkpoints.load()
        with pytest.raises(StepMissing, match=r"step 4 of .* does not exist, or is not complete"):
            checkpoints.load(4)
    with pytest.raises(StateUnusable, match="one buffer"):
        AsyncCheckpointer(url, buffers=0)


def test_a_store_is_made_where_there_is_none(tmp_path: Any) -> None:
    place = tmp_path.resolve() / "runs" / "1"
    with AsyncCheckpointer(str(place)) as checkpoints:
        checkpoints.save(1, state(1))
    assert (place / "shardflow.json").is_file()
    with AsyncCheckpointer(str(place)) as checkpoints:
        assert same(checkpoints.load(), state(1))
