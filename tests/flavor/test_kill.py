"""SIGKILL in the middle of log_model, then the same again: the model ends READY, and what arrived is not sent again."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import pytest
import torch

from services.warmed import finish, program
from shardflow import flavor
from shardflow.store.config import Settings
from shardflow.store.sending import MAX_PACKS_IN_MEMORY
from shardflow.store.store import Store

PACK = 1 << 20
IN_HAND = MAX_PACKS_IN_MEMORY - 1
"""Packs that may be on their way at once: sent again, or there already without a note of it."""
LOG = """
import sys
import mlflow
from flavor.test_kill import weights
from shardflow import flavor

mlflow.set_tracking_uri(sys.argv[1])
flavor.log_model(weights(), name="large", model_id=sys.argv[2])
"""


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {f"layers.{n}.weight": torch.randint(0, 256, (1024, 1024), dtype=torch.uint8) for n in range(30)}


def packs(store: Store) -> dict[str, float]:
    return {info.key: info.modified for info in store.transport.list("packs/")}


@pytest.mark.slow
def test_a_killed_log_model_is_finished_by_running_it_again(tmp_path: Path, tracking_uri: str) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), Settings(pack_bytes=PACK, chunk_bytes=PACK))
    experiment = mlflow.create_experiment(f"killed {tmp_path}", artifact_location=f"{store.url}/artifacts")
    model = mlflow.MlflowClient().create_logged_model(experiment, name="large")

    first = program(LOG, tracking_uri, model.model_id)
    while first.is_alive() and len(packs(store)) < 10:
        time.sleep(0.005)
    first.kill()
    first.join()
    arrived = packs(store)
    assert 10 <= len(arrived) < 30
    assert str(mlflow.get_logged_model(model.model_id).status) == "PENDING"

    finish(program(LOG, tracking_uri, model.model_id))

    finished = mlflow.get_logged_model(model.model_id)
    everything = packs(store)
    assert str(finished.status) == "READY"
    assert {key: everything[key] for key in arrived} == arrived
    size = sum(tensor.nbytes for tensor in weights().values())
    assert sum(info.size for info in store.transport.list("packs/")) <= size + IN_HAND * PACK
    assert int(finished.tags["shardflow.bytes_reused"]) >= (len(arrived) - IN_HAND) * PACK
    assert int(finished.tags["shardflow.bytes_sent"]) <= size - (len(arrived) - 2) * PACK
    back = flavor.load_state_dict(f"models:/{model.model_id}")
    assert all(torch.equal(back[name], tensor) for name, tensor in weights().items())
