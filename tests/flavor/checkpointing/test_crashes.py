"""The process dies at every change to the store, or is killed: the step before is intact, and the run goes on."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from faults.crashing import Fate, mortal
from flavor.checkpointing.samples import same, state
from services.warmed import program
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention, files
from shardflow.flavor.checkpointing.errors import SaveFailed
from shardflow.store.store import Store

SAVE = """
import sys
from flavor.checkpointing.samples import state
from shardflow.flavor.checkpointing import AsyncCheckpointer

with AsyncCheckpointer(sys.argv[1]) as checkpoints:
    for step in range(2, 50):
        checkpoints.save(step, state(step, rows=4096))
"""


def fated(monkeypatch: pytest.MonkeyPatch, store: Store, fate: Fate) -> None:
    monkeypatch.setattr(files, "store_for", lambda _: (mortal(store, fate), "run"))


def changes_of_a_save(monkeypatch: pytest.MonkeyPatch, store: Store, url: str, *, replace: bool) -> int:
    """How many things a save and the removal of the step before change in the store."""
    fate = Fate()
    with monkeypatch.context() as patch, AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        fated(patch, store, fate)
        with AsyncCheckpointer(url, keep=Retention(last=1)) as second:
            second.save(1 if replace else 2, state(2), replace=replace)
    return fate.changes


def wait_for_what_was_begun() -> None:
    """A process that is dead writes nothing more; the threads of one that only failed may be at it still."""
    for thread in threading.enumerate():
        if thread.name.startswith(("shardflow-commit", "shardflow-send")):
            thread.join(60)


@pytest.mark.parametrize("replace", [False, True])
def test_whichever_change_is_the_last_there_is_a_whole_step_and_the_run_goes_on(
    tmp_path: Path, store: Store, url: str, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    number = 1 if replace else 2
    changes = changes_of_a_save(monkeypatch, store, f"{store.url}/run", replace=replace)
    assert changes > 5
    for dies_at in range(1, changes + 1):
        store = Store.init(str(tmp_path.resolve() / f"store-{replace}-{dies_at}"), store.config.settings)
        url = f"{store.url}/run"
        with AsyncCheckpointer(url) as checkpoints:
            checkpoints.save(1, state(1))
        with monkeypatch.context() as patch:
            fate = Fate(dies_at)
            fated(patch, store, fate)
            dying = AsyncCheckpointer(url, keep=Retention(last=1))
            dying.save(number, state(2), replace=replace)
            with suppress(SaveFailed):  # where it dies last, all that counts is done
                dying.close()
            wait_for_what_was_begun()
            assert fate.changes >= dies_at
        with AsyncCheckpointer(url, keep=Retention(last=1)) as resumed:
            found = resumed.load()
            assert same(found, state(1)) or same(found, state(2))
            assert resumed.latest() in {1, number}
            resumed.save(3, state(3))
            resumed.wait()
            assert resumed.steps() == [3]
            assert same(resumed.load(), state(3))
        assert [entry.path for entry in store.ls("run")] == ["run/step-3"]


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_whole_step(store: Store, url: str) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
    run = program(SAVE, url)
    while run.is_alive() and not files.below(store, "run/step-3"):
        time.sleep(0.005)
    run.kill()
    run.join()
    with AsyncCheckpointer(url, keep=Retention(last=2)) as checkpoints:
        last = checkpoints.latest()
        assert last is not None
        assert last >= 2
        assert same(checkpoints.load(), state(last, rows=4096))
        checkpoints.save(last + 1, state(last + 1, rows=4096))
        checkpoints.wait()
        assert same(checkpoints.load(), state(last + 1, rows=4096))
