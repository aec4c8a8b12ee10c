"""A run whose checkpoints go to an object store: saved, taken up by another process, and killed in the middle."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from flavor.checkpointing.samples import near, same, state
from flavor.conftest import SMALL
from services.fixtures import fresh_url
from services.service import Service
from services.warmed import start
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention, files
from shardflow.store.store import Store
from shardflow.transport import Transport

MOMENTS = ["packs/", "tree/run/step-3/state.safetensors", "tree/run/step-3/checkpoint.json"]


@pytest.fixture
def store(moto: Service, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in a bucket of its own."""
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    return Store.init(fresh_url(moto), SMALL)


def test_steps_are_saved_and_loaded_by_whoever_comes_next(url: str, store: Store) -> None:
    steps = {1: state(1, rows=2048)}
    steps |= {number: near(steps[1], number) for number in (2, 10)}
    with AsyncCheckpointer(url, keep=Retention(last=2)) as checkpoints:
        for number, each in steps.items():
            checkpoints.save(number, each, {"loss": 1 / number})
        checkpoints.wait()
        assert checkpoints.progress.totals.bytes_sent < 0.12 * steps[10]["weights"].nbytes
    with AsyncCheckpointer(url) as resumed:
        assert resumed.steps() == [2, 10]
        assert resumed.latest() == 10
        assert [info.metrics for info in resumed.history()] == [{"loss": 0.5}, {"loss": 0.1}]
        assert same(resumed.load(), steps[10])
        assert same(resumed.load(2), steps[2])
    assert {entry.path for entry in store.ls("run")} == {"run/step-2", "run/step-10"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_killed_while_it_saves_goes_on_from_its_last_whole_step(
    moment: str, url: str, store: Store
) -> None:
    run = start(save_until_killed, url, moment)
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    with AsyncCheckpointer(url, keep=Retention(last=1)) as checkpoints:
        assert checkpoints.latest() == 2
        assert same(checkpoints.load(), state(2))
        checkpoints.save(3, state(4))
        checkpoints.wait()
        assert checkpoints.steps() == [3]
        assert same(checkpoints.load(), state(4))
    assert {path.rpartition("/")[2] for path in files.below(store, "run")} == {
        "checkpoint.json",
        "state.safetensors",
        "tree.json",
    }


def save_until_killed(url: str, moment: str) -> None:
    """Two steps, and a third until the first object is about to be written whose key begins like this."""
    with AsyncCheckpointer(url) as checkpoints:
        for number in (1, 2):
            checkpoints.save(number, state(number))
        checkpoints.wait()
        write = Transport.write

        def last(transport: Transport, key: str, *arguments: Any, **options: Any) -> Any:
            if key.startswith(moment):
                os.kill(os.getpid(), signal.SIGKILL)
            return write(transport, key, *arguments, **options)

        Transport.write = last  # type: ignore[method-assign]
        checkpoints.save(3, state(3))
