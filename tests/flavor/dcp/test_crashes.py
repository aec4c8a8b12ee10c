"""The process dies at every change to the store while it saves over a checkpoint: one of the two is there, whole."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from faults.crashing import Crash, Fate, mortal
from flavor.conftest import SMALL
from flavor.dcp.test_alone import load, save, weights
from shardflow.flavor.checkpointing import files
from shardflow.flavor.dcp import writer
from shardflow.store.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated"),
]


def saved_by_a_process_with(fate: Fate, store: Store, url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = mortal(store, fate), "run/step-1"
    with monkeypatch.context() as patch:
        patch.setattr(writer, "Store", SimpleNamespace(find=lambda _: dying))
        patch.setattr(files, "store_for", lambda _: dying)
        with suppress(CheckpointException, Crash):
            save({"weight": weights(seed, 64), "step": seed}, url)
    for thread in threading.enumerate():  # a process that is dead writes nothing more
        if thread.name.startswith(("shardflow-commit", "shardflow-send")):
            thread.join(60)


def found(url: str) -> int:
    """Which checkpoint is there; it is compared with what was saved."""
    state = load({"weight": torch.zeros(64, 256).bfloat16(), "step": 0}, url)
    assert torch.equal(state["weight"], weights(state["step"], 64))
    return int(state["step"])


def test_whichever_change_is_the_last_there_is_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), SMALL)
    url = f"{store.url}/run/step-1"
    save({"weight": weights(1, 64), "step": 1}, url)
    fate = Fate()
    saved_by_a_process_with(fate, store, url, 2, monkeypatch)
    assert found(url) == 2
    assert fate.changes > 5
    seen = set()
    for dies_at in range(1, fate.changes + 1):
        store = Store.init(str(tmp_path.resolve() / f"store-{dies_at}"), SMALL)
        url = f"{store.url}/run/step-1"
        save({"weight": weights(1, 64), "step": 1}, url)
        saved_by_a_process_with(Fate(dies_at), store, url, 2, monkeypatch)
        seen.add(found(url))
        save({"weight": weights(3, 64), "step": 3}, url)
        assert found(url) == 3
    assert seen == {1, 2}
